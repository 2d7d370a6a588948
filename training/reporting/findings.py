"""A scan as a model paints it: how far the mosaic explains the frames, how near it is to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from model.scans import Reference, ScanFile, ScanFileError
from training.datasets.loaders import labelled_from_scan
from training.datasets.part import Indices, counts_of, reference_of, restricted
from training.judging.against_time import Bench, Resemblance, TimedWay, race
from training.judging.evaluation import (
    DARK,
    Evaluation,
    Painted,
    Progress,
    evaluate_set,
    find_trust,
    paint,
    silent,
    transmission,
)
from training.judging.foretelling import Foretold, foretell
from training.judging.iterative import IterativeSettings, reconstruct
from training.judging.iterative_frames import frames_of
from training.judging.painted_scan import PaintedScan, painted_scan, residuals_of
from training.judging.predictor import Predictor
from training.judging.stitching import Stitched, stitch_on_circle
from training.judging.stitching_gains import StitchingWay, stitching_ways, sweeping
from training.judging.stopwatch import Spent
from training.reporting.verdict import Residuals, counting_noise

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Box = tuple[slice, slice]

GOOD_COVERAGE = 0.5  # of the reference's greatest


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The frames of a scan that are judged, and where they lie.

    Attributes:
        frames: (n,) their numbers in the scan.
        counts: (n, H, W) photons a pixel.
        positions_px: (n, 2) float64 top-left corner of each frame's patch in the object.
        shape: (Y, X) of the object.
        probe: (M, H, W) modes that model the frames.
        pixel_m: of the object, metres.
        reference: of the same object, None where there is none.
    """

    frames: Indices
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
        foretold: what was said of the errors against the reference, None without a reference.
        ways: what becomes of the mosaic as it is stitched with more and more care, none without a reference.
        beside: mosaic and reference → each of the file's reconstructions → how alike; empty for but one.
        race: ways to reconstruct the frames against time; empty where it was not asked for.
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
    foretold: Foretold | None
    ways: tuple[StitchingWay, ...]
    beside: Mapping[str, Mapping[str, Resemblance]]
    race: tuple[TimedWay, ...]


def judge_scan(
    scan: ScanFile,
    model: Predictor,
    engines: Sequence[IterativeSettings] = (),
    limit: int | None = None,
    progress: Progress = silent,
    frames: Indices | None = None,
    against_time_s: float | None = None,
) -> ScanFindings:
    """Paint a scan with a model and judge it by the frames, and by the scan's reference where it has one.

    Args:
        scan: open.
        model: of the same frame shape.
        engines: iterative engines to run on the same frames.
        limit: take only this many frames, from the first.
        progress: told of frames painted and iterations done.
        frames: (n,) numbers of those that are judged; all where None.
        against_time_s: seconds that each way to reconstruct the frames is given; None: no such comparison.

    Raises:
        ScanFileError: the scan does not fit the model, or lacks what is needed.
        ValueError: positions and reference do not fit, or an engine diverged.
    """
    field = read_field(scan, model, (np.arange(len(scan)) if frames is None else frames)[:limit])
    evaluation = None if field.reference is None else _evaluate(scan, field, model, progress)
    painted = paint(model.fullest, field.counts, progress) if evaluation is None else evaluation.painted
    stitched = _stitch(field, painted) if evaluation is None else evaluation.circle.stitched
    where = (stitched.coverage > DARK) & field.well_lit
    mosaic = _mosaic(field, stitched, where)
    residuals = _residuals(field, mosaic)
    network = Rival(
        model.name, residuals.mosaic, painted.seconds / len(field.counts), _alike(field, mosaic, where)
    )
    laid = _laid(field, painted, where)
    refine = sweeping(field.counts, field.positions_px, field.probe)
    bench = _bench(field, where)
    return ScanFindings(
        name=scan.path.name,
        field=field,
        painted=painted,
        stitched=stitched,
        mosaic=mosaic,
        where=where,
        residuals=residuals,
        frame_residuals=residuals_of(painted, field.counts, field.probe),
        evaluation=evaluation,
        rings=_rings(field, mosaic, where),
        rivals=(network, *(_rival(field, settings, where, progress) for settings in engines)),
        foretold=None if laid is None else foretell(laid, find_trust(model, progress)),
        ways=() if laid is None else stitching_ways(laid, refine),
        beside=_beside(field, bench, mosaic),
        race=() if against_time_s is None else _race(bench, mosaic, painted, against_time_s, progress),
    )


def read_field(scan: ScanFile, model: Predictor, frames: Indices) -> Field:
    """Return some frames of a scan, with what they see of its reference's grid or else one of their own.

    Raises:
        ScanFileError: the frames are not of the model's shape, or pixel or probe are not known.
    """
    reference = reference_of(scan)
    pixel_m = scan.object_pixel_m or model.object_pixel_m
    probe = model.probe if reference is None or model.probe is not None else reference.probe
    if scan.frame_shape != model.frame_shape:
        raise ScanFileError(
            f"{scan.path}: frames are {scan.frame_shape}, the model takes {model.frame_shape}"
        )
    if pixel_m is None or probe is None:
        raise ScanFileError(f"{scan.path}: neither it nor the model tells the object's pixel and the probe")
    if reference is None:
        positions = to_pixels(scan.positions_m[frames], pixel_m)
        positions -= np.floor(positions.min(axis=0))
        extent = np.ceil(positions.max(axis=0)).astype(int) + np.array(scan.frame_shape)
        shape = (int(extent[0]), int(extent[1]))
    else:
        reference = restricted(reference, frames)
        positions = reference.positions_px
        shape = (reference.object.shape[0], reference.object.shape[1])
    return Field(frames, counts_of(scan, frames), positions, shape, probe, pixel_m, reference)


def box_around(where: NDArray[np.bool_]) -> Box:
    """Return the smallest box around a mask; everything where the mask is empty."""
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _evaluate(scan: ScanFile, field: Field, model: Predictor, progress: Progress) -> Evaluation:
    height, width = model.tile_shape
    if height != width:
        raise ScanFileError(
            f"{scan.path}: a reference is cut into square tiles, the model paints {height}×{width}"
        )
    return evaluate_set(
        model.fullest,
        labelled_from_scan(scan, height, field.frames),
        np.arange(len(field.counts)),
        weight=probe_weight(field.probe, model.tile_shape),
        where=field.well_lit,
        progress=progress,
    )


def _laid(field: Field, painted: Painted, where: NDArray[np.bool_]) -> PaintedScan | None:
    """Return the tiles on the reference's object, None without a reference."""
    if field.reference is None:
        return None
    return painted_scan(painted, field.counts, replace(field.reference, probe=field.probe), where)


def _bench(field: Field, where: NDArray[np.bool_]) -> Bench:
    """Return what objects of the field are judged by."""
    reference = field.reference
    objects = {} if reference is None else {"object": reference.object, **reference.others}
    frames = frames_of(field.counts, field.positions_px, field.probe, object_shape=field.shape)
    return Bench(frames, objects, where)


def _race(
    bench: Bench, mosaic: Complex64, painted: Painted, limit_s: float, progress: Progress
) -> tuple[TimedWay, ...]:
    spent = Spent(painted.seconds, painted.processor_seconds)
    return race(bench, mosaic, spent, limit_s, progress)


def _beside(field: Field, bench: Bench, mosaic: Complex64) -> dict[str, dict[str, Resemblance]]:
    reference = field.reference
    if reference is None or not reference.others:
        return {}
    objects = {"the network's mosaic": mosaic, "object, the reference": reference.object}
    return {name: bench.resemblances(found) for name, found in objects.items()}


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
