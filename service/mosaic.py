"""Tiles → blocks of the mosaic: a commutative sum that grows where the beam goes.

Every tile adds w, w·A, w·cos φ, w·sin φ and w·(1 − confidence), where w is the light that fell on it.
Angles are never averaged: +3.1 and −3.1 rad meet at ±π. A sum does not know the order in which its terms
came.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from service.messages import Float32, Float64, Tiles
from service.planes import CHANNELS, SUMS, Planes, show
from service.spread import Part, Spread, meet, spread

Complex64 = NDArray[np.complex64]
Key = tuple[int, int]
Bounds = tuple[int, int, int, int]

_PIXEL_LIMIT = 2.0**31  # beyond, the object pixel and the positions cannot belong together


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """Where the tiles of one batch went, by frame number, each (n,) int64.

    Attributes:
        stitched: now in the mosaic.
        outside: refused; the position is no number, or absurdly far from the rest of the scan.
        not_finite: refused; the tile holds NaN or infinity.
    """

    stitched: NDArray[np.int64]
    outside: NDArray[np.int64]
    not_finite: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MosaicState:
    """The sums of a mosaic, or those that changed since an earlier state.

    Attributes:
        version: of the mosaic.
        bounds: rows and columns painted so far; None while nothing is.
        first_corner: (2,) int64 first pixel of the first tile; None while there is none.
        sums: (5, B, B) float32 by the key of the block.
    """

    version: int
    bounds: Bounds | None
    first_corner: NDArray[np.int64] | None
    sums: dict[Key, Float32]


class _Block:
    """A square of the mosaic: sums of w, w·A, w·cos φ, w·sin φ, w·(1 − confidence) as (5, B, B) float32."""

    def __init__(self, block_px: int) -> None:
        self.sums = np.zeros((SUMS, block_px, block_px), np.float32)
        self.version = 0
        self._measured_at = -1
        self._totals = np.zeros(3)

    def totals(self) -> Float64:
        """Return Σ w, Σ w·agreement and Σ w·confidence over the block's pixels."""
        if self._measured_at != self.version:
            weight = self.sums[0]
            of_weight = [np.vdot(weight, CHANNELS[name](self.sums)) for name in ("agreement", "confidence")]
            self._totals = np.array([weight.sum(), *of_weight], np.float64)
            self._measured_at = self.version
        return self._totals


class Mosaic:
    """The stitched object of one scan.

    Pixel (0, 0) is centred on the position 0, 0 m; rows and columns grow with y and x and may be negative.
    One thread adds, any thread may read; the lock is held while a batch is added or a block is copied.

    Args:
        object_pixel_m: pixel of the object, metres.
        weight: (h, w) float32 ≥ 0, how much light falls on each pixel of a tile; any scale.
        block_px: side of a block.
        max_extent_px: how far a tile may lie from the first one.
        max_blocks: how many blocks the bounding box may hold; it bounds the memory of blocks and images.
        spread: adds tiles to blocks; the fastest way there is, by default.

    Raises:
        ValueError: the weight is negative, not finite or zero everywhere, or the pixel is not positive.
    """

    def __init__(
        self,
        object_pixel_m: float,
        weight: Float32,
        block_px: int = 128,
        max_extent_px: int = 200_000,
        max_blocks: int = 8192,
        spread: Spread = spread,
    ) -> None:
        if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.max() > 0):
            raise ValueError("the weight of a tile must be finite, not negative, and positive somewhere")
        if not object_pixel_m > 0:
            raise ValueError(f"the object pixel must be positive, not {object_pixel_m} m")
        self.object_pixel_m = object_pixel_m
        self._weight = np.ascontiguousarray(weight / weight.max(), np.float32)
        self._block_px = block_px
        self._max_extent_px = max_extent_px
        self._max_blocks = max_blocks
        self._spread = spread
        self._blocks: dict[Key, _Block] = {}
        self._bounds: Bounds | None = None
        self._first_corner: NDArray[np.int64] | None = None
        self._version = 0
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """Grows with each batch that is added."""
        with self._lock:
            return self._version

    @property
    def weight(self) -> Float32:
        """How much light falls on each pixel of a tile, (h, w), 1 on the brightest."""
        return self._weight

    @property
    def block_px(self) -> int:
        """Side of a block, pixels."""
        return self._block_px

    @property
    def origin_m(self) -> tuple[float, float]:
        """Position y, x of the centre of the first pixel of `image`, metres."""
        y0, x0, _, _ = self.bounds()
        return y0 * self.object_pixel_m, x0 * self.object_pixel_m

    def add(self, tiles: Tiles) -> Stitched:
        """Stitch the tiles, each with its pixel [h // 2, w // 2] on its position, to a fraction of a pixel.

        Raises:
            ValueError: the tiles are not of the shape of the weight.
        """
        if tiles.amplitude.shape[1:] != self._weight.shape:
            raise ValueError(f"tiles are {tiles.amplitude.shape[1:]}, their weight is {self._weight.shape}")
        planes = _planes(tiles)
        finite = _finite(planes[1:])
        corners, fractions, placeable = self.place(tiles.positions_m)
        with self._lock:
            self._version += 1
            parts = self._parts_of(np.flatnonzero(finite & placeable), corners, fractions)
            self._spread(planes, self._weight, fractions, parts)
        painted = np.zeros(len(finite), bool)
        painted[[part.tile for part in parts]] = True
        return Stitched(tiles.indices[painted], tiles.indices[finite & ~painted], tiles.indices[~finite])

    def place(self, positions_m: Float64) -> tuple[NDArray[np.int64], Float32, NDArray[np.bool_]]:
        """Return corner pixels (n, 2), fractions (n, 2) in [0, 1) and whether each can be placed at all."""
        with np.errstate(over="ignore"):
            centres = positions_m / self.object_pixel_m
        placeable: NDArray[np.bool_] = np.all(np.abs(centres) < _PIXEL_LIMIT, axis=1)
        centres = np.where(placeable[:, None], centres, 0.0)
        whole = np.floor(centres)
        corners = whole.astype(np.int64) - np.array(self._weight.shape) // 2
        return corners, (centres - whole).astype(np.float32, order="C"), placeable

    def merge(self, other: Mosaic) -> None:
        """Add another mosaic of the same pixel and block size, such as the other half of a scan.

        Raises:
            ValueError: pixel or block size differ, or together they exceed `max_blocks`.
        """
        if (self.object_pixel_m, self._block_px) != (other.object_pixel_m, other.block_px):
            raise ValueError("only mosaics of the same object pixel and block size can be merged")
        self.restore(other.state())

    def state(self, since: int = -1) -> MosaicState:
        """Return a copy of what changed after the version `since`; of everything by default."""
        with self._lock:
            changed = {key: block for key, block in self._blocks.items() if block.version > since}
            sums = {key: block.sums.copy() for key, block in changed.items()}
            return MosaicState(self._version, self._bounds, self._first_corner, sums)

    def restore(self, state: MosaicState) -> None:
        """Add the sums of a state that was taken of a mosaic of the same pixel and block size.

        Raises:
            ValueError: a block has another size, or together they exceed `max_blocks`.
        """
        sides = {sums.shape for sums in state.sums.values()}
        if not sides <= {(SUMS, self._block_px, self._block_px)}:
            raise ValueError("only blocks of the same size can be added")
        if state.bounds is None:
            return
        with self._lock:
            self._merge(state.bounds, state.first_corner, state.sums)

    def changed_since(self, version: int) -> list[Key]:
        """Return the keys (by, bx) of the blocks that changed after `version`."""
        with self._lock:
            return [key for key, block in self._blocks.items() if block.version > version]

    def block(self, by: int, bx: int) -> Planes:
        """Return the block whose first pixel is (by, bx) · block_px; KeyError where no tile has been."""
        return show(self.sums(by, bx))

    def sums(self, by: int, bx: int) -> Float32:
        """Return the sums of a block as they stand, (SUMS, B, B); KeyError where no tile has been."""
        with self._lock:
            return self._blocks[by, bx].sums.copy()

    def bounds(self) -> Bounds:
        """Return rows y0 ≤ y < y1 and columns x0 ≤ x < x1 painted so far, as (y0, x0, y1, x1)."""
        with self._lock:
            return self._bounds or (0, 0, 0, 0)

    def image(self, channel: str, bounds: Bounds | None = None) -> Float32:
        """Return one channel as (H, W) float32, 0 where no light fell.

        Args:
            channel: a name of `CHANNELS`.
            bounds: the part to show; all that is painted by default. Passing one value of `bounds()` gives
                several channels of one shape while the mosaic grows.
        """
        shown = CHANNELS[channel]
        y0, x0, y1, x1 = bounds or self.bounds()
        picture = np.zeros((y1 - y0, x1 - x0), np.float32)
        for part, sums in self._parts((y0, x0, y1, x1)):
            picture[part] = shown(sums)
        return picture

    def object(self, bounds: Bounds | None = None) -> Complex64:
        """Return the complex transmission amplitude · e^{iφ} as (H, W) complex64; see `image`."""
        bounds = bounds or self.bounds()
        amplitude, phase = self.image("amplitude", bounds), self.image("phase", bounds)
        transmission: Complex64 = amplitude * np.exp(np.complex64(1j) * phase)
        return transmission

    def phasors(self, bounds: Bounds) -> Complex64:
        """Return Σ w e^{iφ} of the tiles as (H, W) complex64, 0 where no light fell."""
        y0, x0, y1, x1 = bounds
        total = np.zeros((y1 - y0, x1 - x0), np.complex64)
        for part, sums in self._parts(bounds):
            total.real[part], total.imag[part] = sums[2], sums[3]
        return total

    def agreement_mean(self) -> float:
        """Return the agreement averaged with the coverage as weight, 0 while nothing is painted."""
        weight, agreement, _ = self._totals()
        return min(agreement / weight, 1.0) if weight else 0.0

    def confidence_mean(self) -> float:
        """Return the confidence averaged with the coverage as weight, 0 while nothing is painted."""
        weight, _, confidence = self._totals()
        return min(confidence / weight, 1.0) if weight else 0.0

    def _totals(self) -> tuple[float, float, float]:
        totals = np.zeros(3)
        for key in self._keys():
            with self._lock:
                totals += self._blocks[key].totals()
        weight, agreement, confidence = totals.tolist()
        return weight, agreement, confidence

    def _parts_of(
        self, tiles: NDArray[np.intp], corners: NDArray[np.int64], fractions: Float32
    ) -> list[Part]:
        """Return where each of these tiles meets the blocks, made as needed; nothing of one too far away."""
        # without a fraction the last row or column of the footprint is empty
        ends = corners + self._weight.shape + (fractions > 0)
        boxes = np.hstack([corners, ends])[tiles].tolist()
        placed = (
            self._placed_in_blocks(tile, tuple(box)) for tile, box in zip(tiles.tolist(), boxes, strict=True)
        )
        return list(chain.from_iterable(placed))

    def _placed_in_blocks(self, tile: int, box: Bounds) -> Iterator[Part]:
        y, x, *_ = box
        bounds = self._grown(box)
        if self._too_far(y, x) or self._too_large(bounds):
            return
        if self._first_corner is None:
            self._first_corner = np.array([y, x])
        self._bounds = bounds
        size = self._block_px
        for by, bx in self._keys_within(box):
            yield Part(tile, self._touch((by, bx)).sums, y - by * size, x - bx * size)

    def _merge(
        self, bounds: Bounds, first_corner: NDArray[np.int64] | None, sums: dict[Key, Float32]
    ) -> None:
        bounds = self._grown(bounds)
        if self._too_large(bounds):
            raise ValueError(f"the merged mosaic would exceed {self._max_blocks} blocks")
        self._version += 1
        self._bounds = bounds
        self._first_corner = first_corner if self._first_corner is None else self._first_corner
        for key, addend in sums.items():
            self._touch(key).sums += addend

    def _touch(self, key: Key) -> _Block:
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block(self._block_px)
        block.version = self._version
        return block

    def _grown(self, box: Bounds) -> Bounds:
        if self._bounds is None:
            return box
        (a, b, c, d), (y0, x0, y1, x1) = self._bounds, box
        return min(a, y0), min(b, x0), max(c, y1), max(d, x1)

    def _too_far(self, y: int, x: int) -> bool:
        if self._first_corner is None:
            return False
        first_y, first_x = self._first_corner.tolist()
        return bool(max(abs(y - first_y), abs(x - first_x)) > self._max_extent_px)

    def _too_large(self, bounds: Bounds) -> bool:
        y0, x0, y1, x1 = (edge / self._block_px for edge in bounds)
        return (ceil(y1) - floor(y0)) * (ceil(x1) - floor(x0)) > self._max_blocks

    def _keys_within(self, box: Bounds) -> Iterator[Key]:
        y0, x0, y1, x1 = box
        size = self._block_px
        return product(range(y0 // size, -(-y1 // size)), range(x0 // size, -(-x1 // size)))

    def _overlap(self, key: Key, box: Bounds) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where a block and a box meet: the part of the block, and the part of the box."""
        (rows, rows_in_box), (columns, columns_in_box) = (
            meet(box[axis] - key[axis] * self._block_px, box[axis + 2] - box[axis], self._block_px)
            for axis in (0, 1)
        )
        return (rows, columns), (rows_in_box, columns_in_box)

    def _keys(self) -> list[Key]:
        with self._lock:
            return list(self._blocks)

    def _parts(self, box: Bounds) -> Iterator[tuple[tuple[slice, slice], Float32]]:
        """Yield each block's part of the box and a copy of the sums in it."""
        for key in self._keys_within(box):
            in_block, in_box = self._overlap(key, box)
            with self._lock:
                block = self._blocks.get(key)
                sums = block.sums[:, *in_block].copy() if block else None
            if sums is not None:
                yield in_box, sums


def _planes(tiles: Tiles) -> list[Float32]:
    """Return what a tile adds to each sum, but for its weight: (n, h, w) float32, the rows in one piece."""
    whole = np.broadcast_to(np.ones(tiles.cos.shape[1:], np.float32), tiles.cos.shape)
    planes = [np.ascontiguousarray(plane, np.float32) for plane in (tiles.amplitude, tiles.cos, tiles.sin)]
    doubt = (
        [] if tiles.confidence is None else [np.subtract(1, tiles.confidence, order="C", dtype=np.float32)]
    )
    return [whole, *planes, *doubt]


def _finite(planes: list[Float32]) -> NDArray[np.bool_]:
    """Return of which tiles all values are numbers, (n,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        # a sum is not finite where one of its terms is not, and several times cheaper than asking each
        sums = [plane.sum(axis=(1, 2)) for plane in planes]
    finite: NDArray[np.bool_] = np.isfinite(np.stack(sums)).all(axis=0)
    return finite
