"""The first frames of a scan that have met their positions, taken beside the running service's own way.

Pure: it is handed events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from service.door import Door
from service.errors import ConfigError
from service.join import Joiner
from service.messages import Event, Frame, Image, Positions, ScanStart
from service.wire.pixels import DEFAULT_LIMITS

_MOST_WAITING: Final = 4096
_MOST_EARLY: Final = 4096  # messages of positions before their scan


class FirstFrames:
    """The first frames of a scan that have met their positions, in the model's shape but not turned.

    Args:
        door: lets events in.
        wanted: how many frames.
    """

    def __init__(self, door: Door, wanted: int) -> None:
        self.start: ScanStart | None = None
        self._door = door
        self._wanted = wanted
        self._frames: dict[int, Frame] = {}
        self._early: list[Positions] = []
        self._joiner = _joiner()

    @property
    def frames(self) -> list[Frame]:
        """Those that are there, in the order of their numbers."""
        return [self._frames[number] for number in sorted(self._frames)][: self._wanted]

    @property
    def complete(self) -> bool:
        """Whether there are as many as wanted."""
        return len(self._frames) >= self._wanted

    def take(self, events: Iterable[Event]) -> None:
        """Take events as decoders give them.

        Raises:
            ConfigError: the frames cannot become the model's.
        """
        for event in self._door.admit(events):
            match event:
                case ScanStart():
                    self._begin(event)
                case Image() if self.start is not None and event.scan == self.start.scan:
                    self._keep(filter(None, [self._joiner.add_image(event, 0.0)]))
                    self._joiner.expire(0.0)
                case Positions():
                    self._positions(event)

    def _begin(self, start: ScanStart) -> None:
        if start.framing is None:
            raise ConfigError("; ".join(line for _, line in start.notes))
        self.start, self._joiner = start, _joiner()
        self._frames.clear()
        if start.positions_m is not None:
            self._positions(Positions(start.scan, 0, start.positions_m))
        early, self._early = self._early, []
        for positions in early:
            self._positions(positions)

    def _positions(self, positions: Positions) -> None:
        if self.start is not None and positions.scan in ("", self.start.scan):
            self._keep(self._joiner.add_positions(positions))
        elif len(self._early) < _MOST_EARLY:
            self._early.append(positions)

    def _keep(self, frames: Iterable[Frame]) -> None:
        self._frames.update((frame.index, frame) for frame in frames)


def _joiner() -> Joiner:
    return Joiner(deadline_s=np.inf, max_waiting=_MOST_WAITING, max_frames=DEFAULT_LIMITS.max_scan_frames)
