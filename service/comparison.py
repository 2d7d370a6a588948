"""A mosaic beside the reference reconstruction of the same frames: figures and a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.bundle import Bundle
from model.judge import (
    ONE_SEVENTH,
    Likeness,
    align_global_phase,
    forward_residual,
    fourier_ring_correlation,
    likeness,
    position_origin_px,
    resample_to_reference,
)
from model.scans import Reference, ScanFile, ScanFileError, open_scan
from service.colours import COLOUR_MAPS
from service.messages import Float32
from service.mosaic import Complex64, Mosaic

GOOD_COVERAGE = 0.5  # of the reference's greatest
_DARK = 0.02  # of a tile's brightest: less light than this says nothing
_GAP_PX = 8


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What came of it.

    Attributes:
        mosaic, reference: (H, W) complex64 on the reference's grid, one global phase removed.
        where: (H, W) bool, good coverage in the reference and light in the mosaic.
        likeness: inside `where`.
        resolution_m: half period, metres, where the Fourier ring correlation crosses half a bit and 1/7
            on the fine side, and half a bit on the coarse side.
        object_pixel_m: of the grid.
        residuals: forward residual of reference, mosaic and an empty object over the stitched frames.
    """

    mosaic: Complex64
    reference: Complex64
    where: NDArray[np.bool_]
    likeness: Likeness
    resolution_m: dict[str, float]
    object_pixel_m: float
    residuals: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        likeness = {name: getattr(self.likeness, name) for name in Likeness.__slots__}
        return {
            **likeness,
            "fourier_ring_resolution_m": self.resolution_m,
            "object_pixel_m": self.object_pixel_m,
            "forward_residual": self.residuals,
        }

    def in_words(self) -> list[str]:
        """Return the figures, a line each."""
        a, r, f = self.likeness, self.residuals, self.resolution_m
        return [
            f"phase:  correlation {a.phase_correlation:.4f}, error {a.phase_rms_rad:.4f} rad RMS "
            f"against the reference, {a.pixels} pixels of good coverage, one global phase removed",
            f"amplitude: correlation {a.amplitude_correlation:.3f}, error {a.amplitude_rms:.4f} RMS",
            f"Fourier ring correlation above half a bit: half periods {_span(f['coarsest'], f['half_bit'])}, "
            f"above 1/7 down to {f['one_seventh'] * 1e9:.0f} nm (pixel {self.object_pixel_m * 1e9:.0f} nm)",
            f"forward residual: reference {r['reference']:.4f}, mosaic {r['mosaic']:.4f}, "
            f"empty object {r['empty']:.4f}",
        ]


def compare(mosaic: Mosaic, bundle: Bundle, path: Path, stitched: NDArray[np.int64]) -> Comparison:
    """Judge a mosaic of a scan file's frames by the reference in that file.

    Args:
        mosaic: of these frames.
        bundle: whose probe models the patterns.
        path: of the scan file.
        stitched: (n,) numbers of the frames that are in the mosaic; residuals are taken over them.

    Raises:
        ScanFileError: the file has no reference.
        ValueError: mosaic and reference do not overlap.
    """
    with open_scan(path) as scan:
        reference = scan.reference()
        if reference is None:
            raise ScanFileError(f"{path}: no reference reconstruction in it to compare with")
        return _compare(mosaic, bundle, scan, reference, stitched)


def _compare(
    mosaic: Mosaic, bundle: Bundle, scan: ScanFile, reference: Reference, stitched: NDArray[np.int64]
) -> Comparison:
    painted, coverage = _on_reference_grid(mosaic, scan, reference)
    where = (reference.coverage > GOOD_COVERAGE * reference.coverage.max()) & (coverage > _DARK)
    painted = align_global_phase(painted, reference.object, where)
    box = _box(where)
    pixel_m = reference.object_pixel_m
    rings = fourier_ring_correlation(painted[box], reference.object[box])
    whole = np.where(coverage > _DARK, painted, 1).astype(np.complex64)
    objects = {"reference": reference.object, "mosaic": whole, "empty": np.ones_like(whole)}
    frames, corners = scan.frames()[stitched], reference.positions_px[stitched]
    return Comparison(
        mosaic=painted,
        reference=reference.object,
        where=where,
        likeness=likeness(painted, reference.object, where),
        resolution_m={
            "half_bit": rings.resolution_px(rings.half_bit) * pixel_m,
            "one_seventh": rings.resolution_px(ONE_SEVENTH) * pixel_m,
            "coarsest": rings.coarsest_px(rings.half_bit) * pixel_m,
        },
        object_pixel_m=pixel_m,
        residuals={
            name: forward_residual(bundle.probe, transmission, frames, corners)
            for name, transmission in objects.items()
        },
    )


def _on_reference_grid(mosaic: Mosaic, scan: ScanFile, reference: Reference) -> tuple[Complex64, Float32]:
    """Return the mosaic's object and coverage on the reference's grid."""
    bounds = mosaic.bounds()
    origin, _ = position_origin_px(
        scan.positions_m, reference.positions_px, scan.frame_shape, reference.object_pixel_m
    )
    place = origin + np.array(bounds[:2])
    shape = (reference.object.shape[0], reference.object.shape[1])
    painted = resample_to_reference(mosaic.object(bounds), place, shape)
    return painted, resample_to_reference(mosaic.image("coverage", bounds), place, shape)


def _box(where: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest box around the mask; everything where the mask is empty."""
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def side_by_side(comparison: Comparison) -> Image.Image:
    """Draw phase above and amplitude below, reference to the left and mosaic to the right, on one scale."""
    box = _box(comparison.where)
    pair = (comparison.reference[box], comparison.mosaic[box])
    middle = np.conj(pair[0].sum())
    rows = [
        _row([np.angle(image * middle) for image in pair], "agreement"),
        _row([np.abs(image) for image in pair], "amplitude"),
    ]
    gap = np.full((_GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([rows[0], gap, rows[1]]))


def _row(planes: list[Float32], colours: str) -> NDArray[np.uint8]:
    low, high = np.percentile(planes[0], (1, 99))
    share = [np.clip((plane - low) / max(high - low, 1e-9), 0, 1) for plane in planes]
    painted = [COLOUR_MAPS[colours][np.round(255 * plane).astype(int)] for plane in share]
    gap = np.full((planes[0].shape[0], _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([painted[0], gap, painted[1]], axis=1)


def _span(coarsest_m: float, finest_m: float) -> str:
    upper = f"from {coarsest_m * 1e9:.0f} nm " if np.isfinite(coarsest_m) else ""
    return f"{upper}down to {finest_m * 1e9:.0f} nm"
