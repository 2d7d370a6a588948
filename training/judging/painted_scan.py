"""A scan that a network painted, beside the object that it should have painted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.optics import tile_residual
from model.scans import Reference
from training.datasets.labelled import cut_tiles
from training.judging.evaluation import Painted, rms_of_tiles, transmission

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, eq=False)
class PaintedScan:
    """Tiles, where they lie, and the truth.

    Attributes:
        painted: the tiles; they say their forward residual.
        corners_px: (n, 2) float64 top-left (row, column) of each tile in the object, with fractions.
        weight: (h, w) float32, light on the pixels of a tile.
        truth: (Y, X) complex64 transmission.
        where: (Y, X) bool, the pixels that are judged.
    """

    painted: Painted
    corners_px: NDArray[np.float64]
    weight: Float32
    truth: Complex64
    where: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """(Y, X) of the object."""
        return (self.truth.shape[0], self.truth.shape[1])

    @property
    def whole_corners_px(self) -> NDArray[np.int64]:
        """Corners (n, 2) at the nearest whole pixels."""
        corners: NDArray[np.int64] = np.rint(self.corners_px).astype(np.int64)
        return corners

    def tile_rms_rad(self) -> NDArray[np.float64]:
        """Return the phase error of each tile (n,) under the light, one phase removed from each."""
        edge = self.weight.shape[0]
        truth_rad = cut_tiles(np.angle(self.truth).astype(np.float32), self.whole_corners_px, edge)
        return rms_of_tiles(self.painted.phase_rad, truth_rad, self.weight)


def painted_scan(
    painted: Painted, counts: NDArray[Any], truth: Reference, where: NDArray[np.bool_]
) -> PaintedScan:
    """Lay the tiles of a scan on its true object.

    A network that does not say its forward residual is asked nothing: the probe gives it.

    Args:
        painted: the tiles.
        counts: (n, H, W) photons a pixel, that they were painted from.
        truth: object, probe and positions of at least the same frames.
        where: (Y, X) bool, the pixels that are judged.
    """
    shape = painted.tile_shape
    inset = np.array(counts.shape[1:]) // 2 - np.array(shape) // 2
    if painted.residual is None:
        residuals = residuals_of(painted, counts, truth.probe)
        painted = replace(painted, residual=residuals.astype(np.float32))
    return PaintedScan(
        painted=painted,
        corners_px=truth.positions_px[: len(counts)] + inset,
        weight=probe_weight(truth.probe, shape),
        truth=truth.object,
        where=where,
    )


def residuals_of(painted: Painted, counts: NDArray[Any], probe: Complex64) -> NDArray[np.float64]:
    """Return how far each frame (n,) is from the tile painted for it, by a probe (M, H, W)."""
    tiles = transmission(painted.amplitude, painted.phase_rad)
    pairs = zip(tiles, counts, strict=True)
    return np.array([tile_residual(probe, tile, frame) for tile, frame in pairs])
