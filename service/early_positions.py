"""Positions that came before their scan, and which scan the positions of a source without names are of.

A PandA does not know how the detector calls its scan. It is armed once a scan, so each of its captures is
of one scan: the one that runs, or the next where that has a capture already. What is left of the capture of
a scan that is over is of none: it must not become the positions of the next.
"""

from __future__ import annotations

from typing import Literal

from service.messages import Positions

UNNAMED = ""
EARLY_BYTES = 1 << 24
"""What positions that come before their scan may take: those of a million frames."""

_MESSAGE_BYTES = 512  # that a message of positions takes beside its array

Arming = Literal["first", "instead", "next"]


class EarlyPositions:
    """Holds positions until their scan begins.

    Args:
        most_bytes: what they may take; the oldest scan's go first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._by_scan: dict[str, list[Positions]] = {}
        self._free = True  # the capture that goes on is of no scan yet
        self._owner: str | None = None  # the running scan, where it has a capture

    def arm(self, unused: bool) -> Arming:
        """Take note that the unnamed source was armed; return which capture this is to the running scan.

        Args:
            unused: no frame of the running scan has a position so far: a capture that it has was an earlier
                one, without frames, and it takes the new one instead.
        """
        self._take(UNNAMED)
        self._free = True
        if self._owner is None:
            return "first"
        if not unused:
            return "next"
        self._owner = None
        return "instead"

    def owner(self, positions: Positions, running: str | None) -> str | None:
        """Return the scan that positions belong to: None where it has not begun or is over."""
        if positions.scan != UNNAMED:
            return positions.scan if positions.scan == running else None
        if self._free and running is not None and self._owner is None:
            self._free, self._owner = False, running
        return None if self._free else self._owner

    def keep(self, positions: Positions) -> None:
        """Hold positions whose scan has not begun; those that are left of a finished scan's capture go."""
        if positions.scan == UNNAMED and not self._free:
            return
        self._by_scan.setdefault(positions.scan, []).append(positions)
        self._held += _size(positions)
        while self._held > self._most:
            self._take(next(iter(self._by_scan)))

    def begin(self, scan: str) -> list[Positions]:
        """Return what is held for a scan that begins."""
        unnamed = self._take(UNNAMED)
        self._owner = None
        if unnamed:
            self._free, self._owner = False, scan
        return self._take(scan) + unnamed

    def end(self) -> None:
        """Take note that the running scan is over."""
        self._owner = None

    def _take(self, scan: str) -> list[Positions]:
        early = self._by_scan.pop(scan, [])
        self._held -= sum(map(_size, early))
        return early


def _size(positions: Positions) -> int:
    return _MESSAGE_BYTES + positions.positions_m.nbytes
