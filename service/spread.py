"""Tiles spread over the blocks that they touch, to a fraction of a pixel.

Compiled where the package was built with a compiler, else in NumPy: the same sums, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.messages import Float32


class Part(NamedTuple):
    """Where a tile meets a block.

    Attributes:
        tile: its place among the tiles.
        sums: (planes or more, B, B) float32 of the block, in one piece.
        top, left: the tile's first pixel as the block counts, rows and columns; may be negative.
    """

    tile: int
    sums: Float32
    top: int
    left: int


Spread = Callable[[list[Float32], Float32, Float32, list[Part]], None]


def spread_in_numpy(
    planes: Sequence[Float32], weight: Float32, fractions: Float32, parts: Sequence[Part]
) -> None:
    """Add the weighted planes of tiles to the blocks that they touch, bilinearly, down and right.

    Args:
        planes: each (n, h, w) float32, with rows in one piece; the first is added to the first sums.
        weight: (h, w) float32.
        fractions: (n, 2) float32 in [0, 1] of a pixel, down and right.
        parts: one tile's after the other's.
    """
    h, w = weight.shape
    footprint = np.zeros((len(planes), h + 1, w + 1), np.float32)
    for tile, of_tile in groupby(parts, lambda part: part.tile):
        footprint[:, h], footprint[:, :, w] = 0, 0
        for plane, summand in zip(planes, footprint, strict=True):
            np.multiply(plane[tile], weight, out=summand[:h, :w])
        _shift(footprint, fractions[tile])
        for _, sums, top, left in of_tile:
            (rows, rows_in_tile), (columns, columns_in_tile) = (
                meet(start, length, sums.shape[-1]) for start, length in ((top, h + 1), (left, w + 1))
            )
            sums[: len(planes), rows, columns] += footprint[:, rows_in_tile, columns_in_tile]


def meet(start: int, length: int, side: int) -> tuple[slice, slice]:
    """Return where a line of pixels meets a block, as the block counts and as the line counts.

    Both are empty where they do not meet.

    Args:
        start: the line's first pixel as the block counts; may be negative.
        length: of the line.
        side: of the block.
    """
    first = max(start, 0)
    last = max(first, min(start + length, side))
    return slice(first, last), slice(first - start, last - start)


def spread_phasor(cos: Float32, sin: Float32, weight: Float32, fraction: Float32) -> NDArray[np.complex64]:
    """Return w·e^{iφ} of one tile as the mosaic spreads it, (h + 1, w + 1).

    Args:
        cos: (h, w) float32.
        sin: (h, w) float32.
        weight: (h, w) float32.
        fraction: (2,) float32 in [0, 1) of a pixel, down and right.
    """
    side = max(weight.shape) + 1
    sums = np.zeros((2, side, side), np.float32)
    spread([cos[None], sin[None]], weight, fraction[None], [Part(0, sums, 0, 0)])
    weighted: NDArray[np.complex64] = sums[0] + np.complex64(1j) * sums[1]
    return weighted[: weight.shape[0] + 1, : weight.shape[1] + 1]


def _shift(footprint: Float32, fraction: Float32) -> None:
    """Move a tile (sums, h + 1, w + 1), its last row and column empty, by a fraction of a pixel, in place.

    Sums over the pixels are conserved. As the last row and column are empty, a pixel's right neighbour is
    the next one in memory and the one below is a row on, from plane to plane too: all moves at once.
    """
    tile = footprint.reshape(-1)
    for share, step in zip(fraction, (footprint.shape[-1], 1), strict=True):
        moved = tile * share
        tile -= moved
        tile[step:] += moved[:-step]


spread: Spread
try:
    from service.compiled import spread
except ImportError:  # there was no compiler
    spread, SPREAD_BY = spread_in_numpy, "NumPy"
else:
    SPREAD_BY = "compiled code"
