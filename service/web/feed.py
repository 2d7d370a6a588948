"""The blocks of one mosaic, prepared once for all viewers (`service.web.block_message`)."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

from service.mosaic import Mosaic
from service.planes import Planes
from service.web.block_message import pack_block
from service.web.levels import COARSEST, Key, LevelKey, Levels, Window, above

_CACHED_MESSAGES = 256


class Feed:
    """A mosaic as its viewers see it; safe to call from any thread.

    Args:
        mosaic: growing meanwhile.
        generation: its number within this process.

    Attributes:
        pause_s: least time between two looks at what has changed. With many viewers, who look at different
            times, a block is so prepared once for all of them and not anew for each.
    """

    def __init__(self, mosaic: Mosaic, generation: int) -> None:
        self.mosaic = mosaic
        self.generation = generation
        self.pause_s = 0.0
        self._looked_s = -math.inf
        self._taken = 0  # the version of the mosaic that is accounted for
        self._version = 0
        self._changed: dict[Key, int] = {}  # the version that each block changed in
        self._keys: list[set[LevelKey]] = [set() for _ in range(COARSEST + 1)]
        self._levels = Levels(mosaic.block_px)
        self._prepared: OrderedDict[LevelKey, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def replace(self, mosaic: Mosaic) -> None:
        """Go over to a later state of the object, all of which has changed."""
        with self._lock:
            self.mosaic, self._taken, self._looked_s = mosaic, 0, -math.inf

    def changed_since(self, version: int) -> tuple[int, list[Key]]:
        """Return the version at the last look, and the blocks of level 0 that changed after `version`."""
        with self._lock:
            self._look()
            return self._version, [key for key, changed in self._changed.items() if changed > version]

    def within(self, window: Window) -> list[LevelKey]:
        """Return the blocks of a window that there are, row by row."""
        with self._lock:
            return sorted(filter(window.holds, self._keys[window.level]))

    def everything(self) -> list[LevelKey]:
        """Return all blocks of level 0."""
        with self._lock:
            return sorted(self._keys[0])

    def prepared(self, key: LevelKey) -> bytes | None:
        """Return the binary message of one block if it has been prepared for another viewer."""
        return self._prepared.get(key)

    def message(self, key: LevelKey) -> bytes:
        """Return the binary message of one block, prepared if need be."""
        with self._lock:
            prepared = self._prepared.get(key)
            if prepared is None:
                prepared = self._prepared[key] = pack_block(self.generation, key, self._show(key))
            self._prepared.move_to_end(key)
            if len(self._prepared) > _CACHED_MESSAGES:
                self._prepared.popitem(last=False)
            return prepared

    def _look(self) -> None:
        """Account for what has changed in the mosaic, unless that was done a moment ago."""
        now, now_s = self.mosaic.version, time.monotonic()
        if now == self._taken or now_s - self._looked_s < self.pause_s:
            return
        self._looked_s = now_s
        changed = self.mosaic.changed_since(self._taken)
        self._taken = now
        self._version += 1
        self._changed.update(dict.fromkeys(changed, self._version))
        self._note(changed)

    def _note(self, changed: Iterable[Key]) -> None:
        self._levels.note_changed(changed)
        for level, keys in enumerate(self._keys):
            over = above(changed, level)
            keys |= over
            for key in over:
                self._prepared.pop(key, None)

    def _show(self, key: LevelKey) -> Planes:
        level, by, bx = key
        if level == 0:
            return self.mosaic.block(by, bx)
        return self._levels.block(key, self._changed.keys(), lambda base: self.mosaic.sums(*base))
