"""What waits for the disk: bounded in bytes, and never waited for by the stream."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from service.messages import Positions, PositionsArmed, Rejected, ScanEnd, ScanStart
from service.recording.chunks import PackedImage
from service.recording.layout import DISK_TOO_SLOW

Item = ScanStart | PackedImage | Positions | Rejected | ScanEnd | PositionsArmed

_SMALL_BYTES: Final = 256  # what is no frame, and no block of positions
_LOST: Final = "the disk was too slow"


class Backlog:
    """A first-in, first-out queue; a frame that finds no room leaves only its number in it.

    Args:
        budget_bytes: that frames may hold; positions and lost numbers may hold as much again.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._held = 0
        self._items: deque[tuple[Item, int]] = deque()
        self._changed = threading.Condition()
        self.lost = 0  # frames, since the start

    def put(self, item: Item) -> None:
        """Append what came, at once."""
        nbytes = _size(item)
        with self._changed:
            if isinstance(item, PackedImage) and self._items and self._held + nbytes > self._budget:
                self.lost += 1
                item, nbytes = Rejected(item.scan, item.index, DISK_TOO_SLOW, _LOST), _SMALL_BYTES
            if isinstance(item, Positions | Rejected) and self._held + nbytes > 2 * self._budget:
                return  # the file tells which frames it has, and which have a position
            self._items.append((item, nbytes))
            self._held += nbytes
            self._changed.notify()

    def get(self, timeout_s: float) -> Item | None:
        """Return the oldest, None where nothing came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._items), timeout_s):
                return None
            item, nbytes = self._items.popleft()
            self._held -= nbytes
            return item

    def __len__(self) -> int:
        """Return how much waits."""
        return len(self._items)


def _size(item: Item) -> int:
    if isinstance(item, PackedImage):
        return memoryview(item.pixels.blob).nbytes + _SMALL_BYTES
    return _SMALL_BYTES + (item.positions_m.nbytes if isinstance(item, Positions) else 0)
