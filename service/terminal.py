"""The mosaic in a terminal: two pixels a character, in true colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live as Screen
from rich.style import Style
from rich.text import Text

from service.client import Live, coloured

_LINES_BELOW = 5
_REFRESH_S = 0.25
_GROUND = (20, 25, 29)
_UPPER_HALF = "▀"


def watch_scan(live: Live, channel: str, *, once: bool, console: Console | None = None) -> None:
    """Draw until interrupted or, with `once`, until the scan is finished.

    Where the output is no terminal, only the last picture is printed.

    Args:
        live: the service.
        channel: what is drawn.
        once: end with the scan.
        console: where to; the standard output by default.
    """
    to = console or Console()
    if not to.is_terminal:
        while once and not live.report.get("finished"):
            live.wait(_REFRESH_S)
        to.print(view(live, channel, to))
        return
    with Screen(console=to, screen=not once, auto_refresh=False) as screen:
        while True:
            finished = once and live.report.get("finished")  # before the picture, so that it is the last one
            screen.update(view(live, channel, to), refresh=True)
            if finished:
                return
            live.wait(_REFRESH_S)


def view(live: Live, channel: str, console: Console) -> Group:
    """Return the picture, the progress and the ledger, as large as the console allows."""
    rows, columns = 2 * max(1, console.height - _LINES_BELOW), console.width
    values = fitted(live.array(channel), rows, columns)
    return Group(*half_blocks(coloured(values, channel)), *_state(live, channel, columns))


def fitted(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Return an image sampled down, or repeated up, to the largest that fits, with square pixels."""
    height, width = values.shape
    if not height or not width:
        return values
    scale = min(rows / height, columns / width)
    shown = max(1, int(height * scale)), max(1, int(width * scale))
    at = [np.arange(n) * size // n for n, size in zip(shown, values.shape, strict=True)]
    return values[np.ix_(*at)]


def half_blocks(colours: NDArray[np.uint8]) -> list[Text]:
    """Return lines of characters whose upper and lower halves are two rows of an image (H, W, 4) RGBA."""
    solid = np.where(colours[..., 3:] > 0, colours[..., :3], np.array(_GROUND, np.uint8))
    if len(solid) % 2:
        solid = np.concatenate([solid, np.broadcast_to(np.array(_GROUND, np.uint8), solid[:1].shape)])
    return [
        _line(upper.tolist(), lower.tolist()) for upper, lower in zip(solid[::2], solid[1::2], strict=True)
    ]


def _line(upper: list[list[int]], lower: list[list[int]]) -> Text:
    line = Text(no_wrap=True, end="\n")
    for above, below in zip(upper, lower, strict=True):
        line.append(_UPPER_HALF, Style.parse(f"{_rgb(above)} on {_rgb(below)}"))
    return line


def _rgb(colour: list[int]) -> str:
    red, green, blue = colour
    return f"rgb({red},{green},{blue})"


def _bar(share: float, width: int) -> Text:
    done = round(share * width)
    return Text.assemble(("━" * done, "green"), ("━" * (width - done), "dim"))


def _state(live: Live, channel: str, width: int) -> list[Text]:
    report = live.report
    if not report:
        return [Text("waiting for the first scan", "dim")]
    ledger, rates = report["ledger"], report["rates"]
    expected = ledger["expected"] or ledger["stitched"] or 1
    rate_hz = rates["frames_per_s"]
    state = "finished" if report["finished"] else "running"
    told = f"{live.scan}, {state}, {channel}" + (f", {rate_hz:.3g} frames/s" if rate_hz else "")
    stale = [] if live.trouble is None else [Text(f"not live: {live.trouble}", "yellow")]
    return [
        *stale,
        Text(told, "bold"),
        _bar(min(1.0, ledger["stitched"] / expected), width),
        Text(str(report["ledger_words"]), "dim"),
    ]
