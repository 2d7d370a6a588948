"""One source and what has come from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.messages import Event, Positions, ScanEnd, ScanStart
from service.sources import Source


@dataclass(slots=True, eq=False)
class Intake:
    """One source and what has come from it; written by its own thread.

    Attributes:
        role: "images" or "positions".
        source: the socket.
        stream_format: what is spoken there.
        keep: what of a message's events goes on.
        messages, refused: how many came, and how many of them could not be used.
        last_s: when the last one came, monotonic; None before.
        in_scan: a scan has begun and its end has not been told.
        lost_peers: how often a sender has gone away so far.
    """

    role: str
    source: Source
    stream_format: str
    keep: Callable[[Iterable[Event]], tuple[Event, ...]] = tuple
    messages: int = 0
    refused: int = 0
    last_s: float | None = None
    in_scan: bool = False
    lost_peers: int = 0

    def note(self, events: Iterable[Event]) -> None:
        """Follow where scans begin and end."""
        for event in events:
            if isinstance(event, ScanStart | ScanEnd):
                self.in_scan = isinstance(event, ScanStart)

    def state(self, now_s: float) -> str:
        """One word or two for the operator."""
        if self.last_s is None:
            return "nothing came yet"
        quiet_s = now_s - self.last_s
        return "receiving" if quiet_s < 2 else f"quiet for {quiet_s:.0f} s"


def positions_only(events: Iterable[Event]) -> tuple[Event, ...]:
    """Keep the positions of a position stream: its start and end are not those of the detector."""
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Positions):
            kept.append(event)
        elif isinstance(event, ScanStart) and event.positions_m is not None:
            kept.append(Positions(event.scan, 0, event.positions_m))
    return tuple(kept)
