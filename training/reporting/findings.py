"""A scan as a model paints it: how far the mosaic explains the frames, how near it is to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight, to_pixels
from model.judge import (
    FourierRings,
    Likeness,
    align_global_phase,
    forward_residual,
    fourier_ring_correlation,
    likeness,
)
from model.optics import tile_residual
from model.scans import Reference, ScanFile, ScanFileError
from training.datasets.loaders import labelled_from_scan
from training.judging.evaluation import (
    DARK,
    Evaluation,
    Painted,
    Progress,
    evaluate_set,
    paint,
    silent,
    transmission,
)
from training.judging.iterative import IterativeSettings, reconstruct
from training.judging.predictor import Predictor
from training.judging.stitching import Stitched, stitch_on_circle
from training.reporting.verdict import Residuals, counting_noise

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Box = tuple[slice, slice]

GOOD_COVERAGE = 0.5  # of the reference's greatest


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The frames of a scan that are judged, and where they lie.

    Attributes:
        counts: (n, H, W) photons a pixel.
        positions_px: (n, 2) float64 top-left corner of each frame's patch in the object.
        shape: (Y, X) of the object.
        probe: (M, H, W) modes that model the frames.
        pixel_m: of the object, metres.
        reference: of the same object, None where there is none.
    """

    counts: NDArray[Any]
    positions_px: NDArray[np.float64]
    shape: tuple[int, int]
    probe: Complex64
    pixel_m: float
    reference: Reference | None

    @property
    def well_lit(self) -> NDArray[np.bool_]:
        """(Y, X) where the reference saw good light; everywhere without one."""
        if self.reference is None:
            return np.ones(self.shape, bool)
        coverage = self.reference.coverage
        return np.asarray(coverage > GOOD_COVERAGE * coverage.max())

    def tile_corners_px(self, tile_shape: tuple[int, int]) -> NDArray[np.int64]:
        """Return the top-left corners (n, 2) of tiles that are centred on the probe, whole pixels."""
        inset = np.array(self.probe.shape[1:]) // 2 - np.array(tile_shape) // 2
        corners: NDArray[np.int64] = np.rint(self.positions_px).astype(np.int64) + inset
        return corners


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """One way to reconstruct the scan, beside the others.

    Attributes:
        name: of the network or the engine.
        residual: forward residual, with the probe that the way ends with.
        seconds_per_frame: of the reconstruction, all iterations.
        likeness: with the reference, None where there is none.
    """

    name: str
    residual: float
    seconds_per_frame: float
    likeness: Likeness | None


@dataclass(frozen=True, slots=True, eq=False)
class ScanFindings:
    """What a model makes of a scan.

    Attributes:
        name: of the scan.
        field: the frames.
        painted: the tiles.
        stitched: the mosaic, on the grid of the field.
        mosaic: (Y, X) complex64, 1 where no light fell; turned by one phase onto the reference.
        where: (Y, X) bool, light in the mosaic and good coverage in the reference.
        residuals: of mosaic, reference and no object.
        frame_residuals: (n,) of each frame and the tile painted for it.
        evaluation: against the reference's tiles, None without a reference.
        rings: Fourier ring correlation with the reference.
        rivals: the network first, then the iterative engines that were asked for.
    """

    name: str
    field: Field
    painted: Painted
    stitched: Stitched
    mosaic: Complex64
    where: NDArray[np.bool_]
    residuals: Residuals
    frame_residuals: NDArray[np.float64]
    evaluation: Evaluation | None
    rings: FourierRings | None
    rivals: tuple[Rival, ...]


def judge_scan(
    scan: ScanFile,
    model: Predictor,
    engines: Sequence[IterativeSettings] = (),
    limit: int | None = None,
    progress: Progress = silent,
) -> ScanFindings:
    """Paint a scan with a model and judge it by the frames, and by the scan's reference where it has one.

    Args:
        scan: open.
        model: of the same frame shape.
        engines: iterative engines to run on the same frames.
        limit: take only this many frames, from the first.
        progress: told of frames painted and iterations done.

    Raises:
        ScanFileError: the scan does not fit the model, or lacks what is needed.
        ValueError: positions and reference do not fit, or an engine diverged.
    """
    field = read_field(scan, model, limit)
    evaluation = None if field.reference is None else _evaluate(scan, field, model, progress)
    painted = paint(model.predict, field.counts, progress) if evaluation is None else evaluation.painted
    stitched = _stitch(field, painted) if evaluation is None else evaluation.circle.stitched
    where = (stitched.coverage > DARK) & field.well_lit
    mosaic = _mosaic(field, stitched, where)
    residuals = _residuals(field, mosaic)
    network = Rival(
        model.name, residuals.mosaic, painted.seconds / len(field.counts), _alike(field, mosaic, where)
    )
    return ScanFindings(
        name=scan.path.name,
        field=field,
        painted=painted,
        stitched=stitched,
        mosaic=mosaic,
        where=where,
        residuals=residuals,
        frame_residuals=frame_residuals(field, painted),
        evaluation=evaluation,
        rings=_rings(field, mosaic, where),
        rivals=(network, *(_rival(field, settings, where, progress) for settings in engines)),
    )


def read_field(scan: ScanFile, model: Predictor, limit: int | None) -> Field:
    """Return the frames of a scan, with the grid of its reference or else one of their own.

    Raises:
        ScanFileError: the frames are not of the model's shape, or pixel or probe are not known.
    """
    reference = scan.reference()
    pixel_m = scan.object_pixel_m or model.object_pixel_m
    probe = model.probe if reference is None or model.probe is not None else reference.probe
    if scan.frame_shape != model.frame_shape:
        raise ScanFileError(
            f"{scan.path}: frames are {scan.frame_shape}, the model takes {model.frame_shape}"
        )
    if pixel_m is None or probe is None:
        raise ScanFileError(f"{scan.path}: neither it nor the model tells the object's pixel and the probe")
    if reference is None:
        positions = to_pixels(scan.positions_m[:limit], pixel_m)
        positions -= np.floor(positions.min(axis=0))
        extent = np.ceil(positions.max(axis=0)).astype(int) + np.array(scan.frame_shape)
        shape = (int(extent[0]), int(extent[1]))
    else:
        positions = reference.positions_px[:limit]
        shape = (reference.object.shape[0], reference.object.shape[1])
    counts = scan.frames(slice(limit))
    if scan.mask is not None:
        counts[:, scan.mask] = 0
    return Field(counts, positions, shape, probe, pixel_m, reference)


def box_around(where: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a mask; everything where the mask is empty."""
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def frame_residuals(field: Field, painted: Painted) -> NDArray[np.float64]:
    """Return how far each frame (n,) is from the tile painted for it: what the service shows live."""
    tiles = transmission(painted.amplitude, painted.phase_rad)
    pairs = zip(tiles, field.counts, strict=True)
    return np.array([tile_residual(field.probe, tile, counts) for tile, counts in pairs])


def _evaluate(scan: ScanFile, field: Field, model: Predictor, progress: Progress) -> Evaluation:
    height, width = model.tile_shape
    if height != width:
        raise ScanFileError(
            f"{scan.path}: a reference is cut into square tiles, the model paints {height}×{width}"
        )
    return evaluate_set(
        model.predict,
        labelled_from_scan(scan, height),
        np.arange(len(field.counts)),
        weight=probe_weight(field.probe, model.tile_shape),
        where=field.well_lit,
        progress=progress,
    )


def _stitch(field: Field, painted: Painted) -> Stitched:
    weight = probe_weight(field.probe, painted.tile_shape)
    corners = field.tile_corners_px(painted.tile_shape)
    return stitch_on_circle(painted.amplitude, painted.phase_rad, corners, field.shape, weight)


def _mosaic(field: Field, stitched: Stitched, where: NDArray[np.bool_]) -> Complex64:
    """Return the mosaic as an object that patches can be cut from: beyond its light it is empty."""
    painted = transmission(stitched.amplitude, stitched.phase_rad)
    if field.reference is not None:
        painted = align_global_phase(painted, field.reference.object, where).astype(np.complex64)
    return np.where(stitched.coverage > DARK, painted, np.complex64(1))


def _residuals(field: Field, mosaic: Complex64) -> Residuals:
    def of(transmission: Complex64) -> float:
        return forward_residual(field.probe, transmission, field.counts, field.positions_px)

    reference = None if field.reference is None else field.reference.object
    best = mosaic if reference is None else reference
    return Residuals(
        mosaic=of(mosaic),
        empty=of(np.ones_like(mosaic)),
        noise=counting_noise(field.probe, best, field.positions_px),
        reference=None if reference is None else of(reference),
    )


def _alike(field: Field, estimate: Complex64, where: NDArray[np.bool_]) -> Likeness | None:
    return None if field.reference is None else likeness(estimate, field.reference.object, where)


def _rings(field: Field, mosaic: Complex64, where: NDArray[np.bool_]) -> FourierRings | None:
    if field.reference is None:
        return None
    box = box_around(where)
    return fourier_ring_correlation(mosaic[box], field.reference.object[box])


def _rival(field: Field, settings: IterativeSettings, where: NDArray[np.bool_], progress: Progress) -> Rival:
    with progress(f"{settings.engine}, iterations", settings.iterations) as advance:
        result = reconstruct(
            field.counts,
            field.positions_px,
            field.probe,
            settings,
            object_shape=field.shape,
            progress=lambda _: advance(1),
        )
    return Rival(
        name=f"{settings.engine}, {settings.iterations} iterations from an empty object",
        residual=result.residuals[settings.iterations],
        seconds_per_frame=result.seconds_per_frame,
        likeness=_alike(field, result.object, where),
    )
