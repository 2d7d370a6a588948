"""Coarser levels of a mosaic, so that whoever looks from far away is sent no more than what the screen shows.

Pixel (y, x) of level k stands for the 2^k × 2^k pixels of the mosaic from (y, x) · 2^k on; level 0 is the
mosaic. What a mosaic sums up is additive, so that a coarse pixel holds the means of the sums under it:
phases meet as phasors, weighted by their light. Agreement and confidence are averaged as they stand, for a
phase that varies inside a coarse pixel is detail of the object and no disagreement of the tiles.

A level is cut into blocks of as many pixels as those of the mosaic.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import product

import msgspec
import numpy as np

from service.messages import Float32
from service.planes import Planes

COARSEST = 7
"""The level at which a block of 128 pixels has become one pixel."""

Key = tuple[int, int]
LevelKey = tuple[int, int, int]
"""Level, block row, block column."""

_MEANS = 6  # w, w·A, w·R·cos φ, w·R·sin φ, w·R, w·confidence, where R is the agreement
_COARSE_BLOCKS_KEPT = 192
_FAINTEST = float(np.finfo(np.float32).tiny)


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range of blocks of one level: rows and columns from … to, the end not included."""

    level: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def __post_init__(self) -> None:
        """Refuse a level that there is not.

        Raises:
            ValueError: the level is none of 0 … `COARSEST`.
        """
        if not 0 <= self.level <= COARSEST:
            raise ValueError(f"level {self.level} is not within 0 … {COARSEST}")

    def holds(self, key: LevelKey) -> bool:
        """Return whether the block is in it."""
        level, by, bx = key
        (top, bottom), (left, right) = self.rows, self.columns
        return level == self.level and top <= by < bottom and left <= bx < right


def above(keys: Iterable[Key], level: int) -> set[LevelKey]:
    """Return the blocks of a level that lie over blocks of the mosaic."""
    return {(level, by >> level, bx >> level) for by, bx in keys}


def below(key: LevelKey) -> Iterator[Key]:
    """Yield the 4^level blocks of the mosaic that a block of a level lies over."""
    level, by, bx = key
    side = 1 << level
    return product(range(by * side, (by + 1) * side), range(bx * side, (bx + 1) * side))


def means_of(sums: Float32) -> Float32:
    """Return what may be averaged of a part of the mosaic, (6, H, W), of its sums (5, H, W)."""
    means = np.empty((_MEANS, *sums.shape[1:]), np.float32)
    means[:4] = sums[:4]
    weight, resultant, trusted = sums[0], means[4], means[5]
    np.hypot(sums[2], sums[3], out=resultant)
    np.minimum(resultant, weight, out=resultant)  # rounding may exceed it
    trusted[...] = 0
    np.divide(sums[4], weight, out=trusted, where=weight > _FAINTEST)
    np.clip(1 - trusted, 0, 1, out=trusted)
    trusted *= resultant
    return means


def shrink(means: Float32, level: int) -> Float32:
    """Return the means over squares of 2^level pixels, (6, H / 2^level, W / 2^level)."""
    side = 1 << level
    count, height, width = means.shape
    rows = means.reshape(count, height // side, side, width).mean(axis=2)
    shrunk: Float32 = rows.reshape(count, height // side, width // side, side).mean(axis=3)
    return shrunk


def planes_of(means: Float32) -> Planes:
    """Return what means (6, H, W) show."""
    weight = means[0]
    share = np.zeros((3, *weight.shape), np.float32)
    np.divide(means[[1, 4, 5]], weight, out=share, where=weight > _FAINTEST)
    amplitude, agreement, confidence = share
    phase: Float32 = np.arctan2(means[3], means[2])
    return Planes(amplitude, phase, np.minimum(agreement, 1), weight.copy(), np.minimum(confidence, 1))


class Levels:
    """The coarse blocks that somebody looks at; each is mended only where the mosaic has changed.

    Args:
        block_px: side of a block.
        kept: coarse blocks to keep, 24 bytes a pixel; the one that was not asked for longest goes first.
    """

    def __init__(self, block_px: int, kept: int = _COARSE_BLOCKS_KEPT) -> None:
        self._block_px = block_px
        self._kept = kept
        self._means: OrderedDict[LevelKey, Float32] = OrderedDict()
        self._stale: dict[LevelKey, set[Key]] = {}

    def note_changed(self, keys: Iterable[Key]) -> None:
        """Take note that blocks of the mosaic have changed."""
        levels = {level for level, _, _ in self._means}
        for level, (by, bx) in product(levels, keys):
            over = (level, by >> level, bx >> level)
            if over in self._stale:
                self._stale[over].add((by, bx))

    def block(self, key: LevelKey, painted: Collection[Key], read: Callable[[Key], Float32]) -> Planes:
        """Return a block of level 1 or coarser.

        Args:
            key: which.
            painted: the blocks of the mosaic that there are.
            read: gives the sums of one of them, (5, B, B).
        """
        if key not in self._means:
            self._means[key] = np.zeros((_MEANS, self._block_px, self._block_px), np.float32)
            self._stale[key] = {each for each in below(key) if each in painted}
        self._means.move_to_end(key)
        for each in self._stale[key]:
            self._mend(key, each, read(each))
        self._stale[key] = set()
        shown = planes_of(self._means[key])
        self._forget()
        return shown

    def _mend(self, key: LevelKey, base: Key, sums: Float32) -> None:
        level, by, bx = key
        part = self._block_px >> level
        top, left = (base[0] - (by << level)) * part, (base[1] - (bx << level)) * part
        self._means[key][:, top : top + part, left : left + part] = shrink(means_of(sums), level)

    def _forget(self) -> None:
        while len(self._means) > self._kept:
            oldest, _ = self._means.popitem(last=False)
            del self._stale[oldest]
