"""`ptycholive check --orient`: which orientation and which axes the settings should name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from model.bundle import Bundle, TrustDescription
from model.scans import ScanFile, open_scan
from service.config import Settings
from service.door import Door
from service.door_settings import unturned
from service.engine import Engine, engine_input
from service.errors import ConfigError
from service.intake import positions_only
from service.messages import Event, Frame, Image, ScanStart
from service.orienting.first_frames import FirstFrames
from service.orienting.trial import OrientTrial, Pair, try_orientations
from service.replay import start_of_file
from service.scan_run import scan_pixel_m
from service.streams import AnySource, Role, open_source
from service.workforce import gpu_place, load_engine

Events = tuple[Event, ...]

_FEWEST: Final = 8  # frames; with less nothing can be said of the axes
_POLL_S: Final = 0.02
_READ_AT_ONCE: Final = 16
_MOST_ANSWERS: Final = 8


def check_orientation(settings: Settings, wanted: int, timeout_s: float, file: Path | None) -> Iterator[str]:
    """Yield the lines of the report; the last one is the settings to use.

    Args:
        settings: of streams, bundle, crop, bin and mask; the orientation and axes in them are not applied.
        wanted: frames to take.
        timeout_s: how long the streams may bring no further frame with a position.
        file: scan file to take the frames from; None: the live streams.

    Raises:
        ConfigError: too few frames came, or they cannot become the model's.
        EngineError: the network does not run.
        ScanFileError: the file cannot be read.
    """
    engine = load_engine(settings.bundle, settings.threads, settings.engine, gpu_place(settings))
    first = FirstFrames(_door(settings, engine.bundle), wanted)
    if file is None:
        _from_streams(settings, first, timeout_s)
    else:
        with open_scan(file) as scan:
            _from_file(scan, first)
    if first.start is None or len(first.frames) < _FEWEST:
        raise ConfigError(
            f"{len(first.frames)} frames met their positions, {_FEWEST} are needed: are detector and "
            "positions both armed, and do both count frames from 0?"
        )
    yield f"{len(first.frames)} frames of scan {first.start.scan}, model {engine.bundle.description.name}"
    yield from report(_trial(engine, first.start, first.frames), engine.bundle.description.trust)


def report(trial: OrientTrial, trust: TrustDescription | None) -> Iterator[str]:
    """Yield a table of what was tried, and what follows from it.

    Args:
        trial: what came out.
        trust: how well the model explains frames that lie as they should; None: nobody has found out.
    """
    yield from _table("orientation", "one frame", {way.setting: r for way, r in trial.frames.items()})
    several = len({way for way, _ in trial.stitched}) > 1
    named = {_named(pair) if several else pair[1].axes: r for pair, r in trial.stitched.items()}
    yield from _table("positions-axes", "stitched", named)
    if not trial.answers:
        yield "nothing explains these frames: is this the model of this instrument?"
        return
    best, *others = trial.answers
    if trust is not None and trial.frames[best[0]] > trust.residual[1]:
        most = f"{trust.residual[1]:.3f}, the most in training"
        yield f"even the best is above {most}: another probe or sample?"
    if others:
        yield from _undecided(best, others)
    yield _named(best)


def _undecided(best: Pair, others: list[Pair]) -> Iterator[str]:
    yield "cannot be told from the last line:"
    yield from (f"  {_named(pair)}" for pair in others[:_MOST_ANSWERS])
    if len({way for way, _ in [best, *others]}) > 1:
        yield "the probe looks the same when it is turned so: compare the picture with the sample"
    else:
        yield "the tiles overlap in too few directions: take more frames, with --frames"


def _table(name: str, what: str, residuals: dict[str, float]) -> Iterator[str]:
    width = max(len(name), *map(len, residuals))
    yield f"{name:<{width}}  forward residual, {what}"
    yield from (f"{key:<{width}}  {residual:.4f}" for key, residual in residuals.items())


def _named(pair: Pair) -> str:
    return f"orientation = {pair[0].setting}, positions-axes = {pair[1].axes}"


def _trial(engine: Engine, start: ScanStart, frames: list[Frame]) -> OrientTrial:
    model = engine.bundle.description
    counts = engine_input(frames, start.mask, np.dtype(model.counts_dtype))
    positions_m = np.array([(frame.y_m, frame.x_m) for frame in frames])
    return try_orientations(engine, counts, positions_m, scan_pixel_m(start, model)[0])


def _door(settings: Settings, bundle: Bundle) -> Door:
    return Door(unturned(settings), lambda: bundle.description.frame_shape)


def _from_streams(settings: Settings, first: FirstFrames, timeout_s: float) -> None:
    """Take messages until there are enough frames, or none met its position for a while."""
    with ExitStack() as stack:
        images = _opened(settings, "images", stack)
        positions = None if settings.positions is None else _opened(settings, "positions", stack)
        have, last_s = 0, time.monotonic()
        while not first.complete and time.monotonic() - last_s < timeout_s:
            taken = positions is not None and _take(positions, 0, first, positions_only)
            _take(images, 0 if taken else _POLL_S, first)
            if len(first.frames) > have:
                have, last_s = len(first.frames), time.monotonic()


def _opened(settings: Settings, role: Role, stack: ExitStack) -> AnySource:
    source = open_source(settings, role)
    stack.callback(source.close)
    return source


def _take(
    source: AnySource, timeout_s: float, first: FirstFrames, keep: Callable[[Events], Events] = tuple
) -> bool:
    """Take one message if there is one; return whether there was."""
    received = source.receive(timeout_s)
    if received is None:
        return False
    first.take(keep(received.events))
    return True


def _from_file(scan: ScanFile, first: FirstFrames) -> None:
    first.take([start_of_file(scan, scan.path.stem)])
    for begin in range(0, len(scan), _READ_AT_ONCE):
        if first.complete:
            return
        counts = scan.frames(slice(begin, min(begin + _READ_AT_ONCE, len(scan))))
        first.take(Image(scan.path.stem, begin + i, frame, 0) for i, frame in enumerate(counts))
