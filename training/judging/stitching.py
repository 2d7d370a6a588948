"""Whole scans of tiles → one field: as the paper averages them, and on the circle.

Offline and all at once; the live mosaic is `service.mosaic`. A corner may lie between pixels: then its tile
is spread bilinearly over the pixels that it straddles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.gauge import ROUNDS, fitting_turn

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex128 = NDArray[np.complex128]
Real = NDArray[np.floating[Any]]
Corners = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
Shape = tuple[int, int]
Window = tuple[slice, slice]
Fraction = tuple[float, float]
Sum = TypeVar("Sum", Float64, Complex128)


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """A field stitched from tiles, each plane (Y, X) float32, 0 where the coverage is 0.

    Attributes:
        amplitude: None for a method that predicts phase only.
        phase_rad: in [−π, π] where stitched on the circle.
        coverage: Σ w of the tiles that lie there.
        agreement: |Σ w e^{iφ}| / Σ w in [0, 1], 1 where all tiles say the same phase; None where angles
            were averaged.
    """

    amplitude: Float32 | None
    phase_rad: Float32
    coverage: Float32
    agreement: Float32 | None


def centre_weight(edge_px: int) -> Float64:
    """Return the paper's weight (edge_px, edge_px): w = (1 − d/d_max)², d from [edge_px // 2, edge_px // 2].

    It is zero in the first corner, and in all four where `edge_px` is odd: a pixel that only such corners
    see stays without coverage.
    """
    away = np.arange(edge_px) - edge_px // 2
    distance = np.hypot.outer(away, away)
    weight: Float64 = np.square(1 - distance / max(distance.max(), 1.0))
    return weight


def stitch_as_paper(
    amplitude: Real | None, phase_rad: Real, corners_px: Corners, shape: Shape, keep_px: int
) -> Stitched:
    """Average amplitudes and angles, as arXiv 2604.26664 and its released code (carson-liu/CPR) do.

    +3.1 and −3.1 rad meet at 0 here; see `stitch_on_circle`. The middle of each tile is laid down under
    `centre_weight`.

    Args:
        amplitude: (N, h, w), None for a method that predicts phase only.
        phase_rad: (N, h, w).
        corners_px: (N, 2) top-left (row, column) of each whole tile in the field.
        shape: (Y, X) of the field.
        keep_px: edge of the middle of each tile that is used; pixel [h // 2, w // 2] becomes its middle.

    Raises:
        ValueError: parts do not fit each other, or a kept middle reaches beyond its tile or the field.
    """
    height, width = phase_rad.shape[1:]
    if not 0 < keep_px <= min(height, width):
        raise ValueError(f"cannot keep {keep_px} pixels of tiles of {height} × {width}")
    top, left = height // 2 - keep_px // 2, width // 2 - keep_px // 2
    middle = np.s_[:, top : top + keep_px, left : left + keep_px]
    phase_rad, amplitude = phase_rad[middle], None if amplitude is None else amplitude[middle]
    corners_px = corners_px + np.array([top, left])
    return stitch_angles(amplitude, phase_rad, corners_px, shape, centre_weight(keep_px))


def stitch_on_circle(
    amplitude: Real | None,
    phase_rad: Real,
    corners_px: Corners,
    shape: Shape,
    weight: Real | None = None,
    *,
    gauge: bool = False,
) -> Stitched:
    """Average amplitudes, and phases as phasors: +3.1 and −3.1 rad meet at ±π.

    Args:
        amplitude: (N, h, w), None for a method that predicts phase only.
        phase_rad: (N, h, w).
        corners_px: (N, 2) top-left (row, column) of each tile in the field.
        shape: (Y, X) of the field.
        weight: (h, w), not negative, how much each pixel of a tile is trusted (the probe's intensity); 1
            everywhere where None.
        gauge: turn each tile, in the order given, by the one angle that fits it best to those before it.
            Absolute phase is not in a diffraction pattern; in the field, only one angle stays unknown.

    Raises:
        ValueError: parts do not fit each other, a weight is negative, or a tile reaches beyond the field.
    """
    _refuse_misfit(amplitude, phase_rad, corners_px, shape)
    weight = _checked_weight(weight, (phase_rad.shape[1], phase_rad.shape[2]))
    coverage = _coverage(weight, corners_px, shape)
    phasors = np.exp(1j * phase_rad)
    total = (_add_turned if gauge else _add)(phasors, weight, corners_px, np.zeros(shape, np.complex128))
    return Stitched(
        amplitude=_mean(amplitude, weight, corners_px, coverage),
        phase_rad=np.angle(total).astype(np.float32),
        coverage=coverage.astype(np.float32),
        agreement=_share(np.abs(total), coverage),
    )


def stitch_settled(
    amplitude: Real | None,
    phase_rad: Real,
    corners_px: Corners,
    shape: Shape,
    weight: Real,
    sweeps: int = ROUNDS,
) -> Stitched:
    """Stitch as `stitch_on_circle`, then turn each tile to fit all the others, over and over.

    It needs all tiles of a scan at once. Those that come first are not what the rest is turned after, so that
    errors do not add up along the scan.

    Args:
        amplitude: (N, h, w), None for a method that predicts phase only.
        phase_rad: (N, h, w).
        corners_px: (N, 2) top-left (row, column) of each tile in the field.
        shape: (Y, X) of the field.
        weight: (h, w), not negative.
        sweeps: how often each tile is turned.

    Raises:
        ValueError: as `stitch_on_circle`.
    """
    weight = _checked_weight(weight, (phase_rad.shape[1], phase_rad.shape[2]))
    _refuse_misfit(amplitude, phase_rad, corners_px, shape)
    phasors = np.exp(1j * phase_rad)
    total = _add(phasors, weight, corners_px, np.zeros(shape, np.complex128))
    for _ in range(sweeps):
        for tile, (window, fraction) in zip(phasors, _places(corners_px, weight.shape), strict=True):
            weighted = _spread(weight * tile, fraction)
            turn = fitting_turn(weighted, total[window] - weighted)
            total[window] += (turn - 1) * weighted
            tile *= turn
    return stitch_on_circle(amplitude, np.angle(phasors), corners_px, shape, weight)


def stitch_angles(
    amplitude: Real | None, phase_rad: Real, corners_px: Corners, shape: Shape, weight: Real | None = None
) -> Stitched:
    """Average angles as if they were numbers, and all else as `stitch_on_circle`: what not to do.

    Raises:
        ValueError: as `stitch_on_circle`.
    """
    _refuse_misfit(amplitude, phase_rad, corners_px, shape)
    weight = _checked_weight(weight, (phase_rad.shape[1], phase_rad.shape[2]))
    coverage = _coverage(weight, corners_px, shape)
    return Stitched(
        amplitude=_mean(amplitude, weight, corners_px, coverage),
        phase_rad=_share(_add(phase_rad, weight, corners_px, np.zeros(shape)), coverage),
        coverage=coverage.astype(np.float32),
        agreement=None,
    )


def average(values: Real, corners_px: Corners, shape: Shape, weight: Real) -> Float32:
    """Return the weighted mean over a field (Y, X) of whatever tiles say, 0 where no weight lies.

    Args:
        values: (N, h, w), or (N, 1, 1) where a tile says one value.
        corners_px: (N, 2) top-left (row, column) of each tile in the field.
        shape: (Y, X) of the field.
        weight: (h, w), not negative.

    Raises:
        ValueError: parts do not fit each other, a weight is negative, or a tile reaches beyond the field.
    """
    _refuse_misplaced(len(values), corners_px, weight.shape, shape)
    weight = _checked_weight(weight, (weight.shape[0], weight.shape[1]))
    total = _add(values, weight, corners_px, np.zeros(shape))
    return _share(total, _coverage(weight, corners_px, shape))


def _add(tiles: NDArray[Any], weight: Float64, corners_px: Corners, total: Sum) -> Sum:
    """Add tiles (N, h, w) under their weight (h, w) to the running total (Y, X)."""
    for tile, (window, fraction) in zip(tiles, _places(corners_px, weight.shape), strict=True):
        total[window] += _spread(weight * tile, fraction)
    return total


def _add_turned(tiles: NDArray[Any], weight: Float64, corners_px: Corners, total: Complex128) -> Complex128:
    """Add phasors as `_add` does, each tile turned to fit the total under it; see `fitting_turn`."""
    for tile, (window, fraction) in zip(tiles, _places(corners_px, weight.shape), strict=True):
        weighted = _spread(weight * tile, fraction)
        total[window] += weighted * fitting_turn(weighted, total[window])
    return total


def _coverage(weight: Float64, corners_px: Corners, shape: Shape) -> Float64:
    return _add(np.ones((len(corners_px), 1, 1)), weight, corners_px, np.zeros(shape))


def _mean(tiles: Real | None, weight: Float64, corners_px: Corners, coverage: Float64) -> Float32 | None:
    if tiles is None:
        return None
    return _share(_add(tiles, weight, corners_px, np.zeros(coverage.shape)), coverage)


def _share(total: Float64, coverage: Float64) -> Float32:
    """Return total / coverage, 0 where there is no coverage."""
    share = np.divide(total, coverage, out=np.zeros(total.shape), where=coverage > 0)
    return share.astype(np.float32)


def _places(corners_px: Corners, tile_shape: tuple[int, ...]) -> Iterator[tuple[Window, Fraction]]:
    """Yield the window of the field that each tile straddles, and the fractions of a pixel in it."""
    height, width = tile_shape
    for corner in corners_px:
        (y, down), (x, right) = ((floor(at), at - floor(at)) for at in corner.tolist())
        yield np.s_[y : y + height + (down > 0), x : x + width + (right > 0)], (down, right)


def _spread(tile: NDArray[Any], fraction: Fraction) -> NDArray[Any]:
    """Move a tile down and right by fractions of a pixel: each pixel is shared among those it straddles."""
    for axis, part in enumerate(fraction):
        if part:
            ahead, behind = ([(0, 0), (0, 0)] for _ in range(2))
            ahead[axis], behind[axis] = (1, 0), (0, 1)
            tile = part * np.pad(tile, ahead) + (1 - part) * np.pad(tile, behind)
    return tile


def _checked_weight(weight: Real | None, tile_shape: Shape) -> Float64:
    if weight is None:
        return np.ones(tile_shape)
    if weight.shape != tile_shape or (weight < 0).any():
        raise ValueError(f"tiles of {tile_shape} need one weight a pixel, none negative; got {weight.shape}")
    return weight.astype(np.float64)


def _refuse_misfit(amplitude: Real | None, phase_rad: Real, corners_px: Corners, shape: Shape) -> None:
    if amplitude is not None and amplitude.shape != phase_rad.shape:
        raise ValueError(f"amplitudes {amplitude.shape} and phases {phase_rad.shape} do not fit")
    _refuse_misplaced(len(phase_rad), corners_px, phase_rad.shape[1:], shape)


def _refuse_misplaced(tiles: int, corners_px: Corners, tile_shape: tuple[int, ...], shape: Shape) -> None:
    if corners_px.shape != (tiles, 2):
        raise ValueError(f"{tiles} tiles need corners ({tiles}, 2), not {corners_px.shape}")
    if (corners_px < 0).any() or (np.ceil(corners_px) + np.array(tile_shape) > np.array(shape)).any():
        raise ValueError(f"tiles of {tile_shape} at these corners reach beyond the field of {shape}")
