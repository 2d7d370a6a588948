"""What a network's tiles make of whole objects that it has not seen: small scans, stitched and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.optics import intensity
from model.scans import Reference
from training.judging.evaluation import Float32, paint, transmission
from training.judging.iterative_frames import frames_of
from training.judging.metrics import circular_figures
from training.judging.predictor import Predict
from training.judging.refinement_run import RefinementRun
from training.judging.stitching import Stitched, stitch_on_circle
from training.judging.stopwatch import Spent
from training.simulation.camera import CameraRecipe
from training.simulation.objects import EVERY_FAMILY
from training.simulation.probes import diameter_px
from training.simulation.raster import Counts, ScanRecipe, simulate_scan

SCAN_SEED = 3_000_000  # of the first object: no run learns from it, nor chooses by it
FAMILY_SEED = 1_000  # times the family's place, added to it
SWEEPS = 5  # of refinement, each over all frames
KEPT_COVERAGE = 0.5  # of the greatest: where less light fell, at the rim, nothing is compared
_PIXEL_M = 1e-8  # any would do: figures are in object pixels


@dataclass(frozen=True, slots=True)
class ScanSeries:
    """Which scans are taken of each family's objects.

    Attributes:
        objects: of each family.
        frames: of each scan.
        overlap: of neighbouring positions, 1 − step / diameter of the probe.
        exposures: in units of the probe's; every object is scanned at each.
    """

    objects: int = 4
    frames: int = 144
    overlap: float = 0.75
    exposures: tuple[float, ...] = (1.0, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class StitchedFigures:
    """Errors of the mosaics of one family's objects at one exposure, an entry an object.

    Attributes:
        family: name in `EVERY_FAMILY`.
        exposure: in units of the probe's.
        phase_rms_rad: circular, one global phase removed, each tile turned by the angle that fits it best to
            those before it: no diffraction pattern holds the absolute phase of its tile.
        unturned_phase_rms_rad: the same of tiles stitched as they are, as the service does; even of perfect
            tiles in the gauge Σ|P|²·O > 0 it is not 0.
        flat_phase_rms_rad: of a flat object: what having painted nothing would cost.
        amplitude_rms: of the amplitude against the object's as the exposure makes it look; None from a
            network that predicts phase only.
        refined_phase_rms_rad: after `SWEEPS` of the service's refinement, from the mosaic of turned tiles.
        refined_flat_phase_rms_rad: after as many from a flat object: what the network is then worth.
        sweep_ms: of the processor a frame and sweep, the least of all scans.
    """

    family: str
    exposure: float
    phase_rms_rad: tuple[float, ...]
    unturned_phase_rms_rad: tuple[float, ...]
    flat_phase_rms_rad: tuple[float, ...]
    amplitude_rms: tuple[float, ...] | None
    refined_phase_rms_rad: tuple[float, ...]
    refined_flat_phase_rms_rad: tuple[float, ...]
    sweep_ms: float


@dataclass(frozen=True, slots=True)
class MosaicErrors:
    """Root mean square errors of one mosaic where enough light fell; see `StitchedFigures`."""

    phase_rad: float
    unturned_phase_rad: float
    flat_phase_rad: float
    amplitude: float | None
    refined_phase_rad: float
    refined_flat_phase_rad: float
    sweep_ms: float


def held_out_scan(
    probe: NDArray[np.complex64], family: str, number: int, exposure: float, series: ScanSeries
) -> tuple[Counts, Reference]:
    """Scan an object that taught no network and chose no checkpoint; it is the same for all networks.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        family: of the object, name in `EVERY_FAMILY`.
        number: of the object in its family, from 0.
        exposure: in units of the probe's.
        series: how the scan is taken.

    Returns:
        Counts (N, H, W), and the object as strong as the exposure makes it look.
    """
    recipe = ScanRecipe(
        families=(family,),
        frames=series.frames,
        step_px=(1 - series.overlap) * diameter_px(probe),
        seed=SCAN_SEED + FAMILY_SEED * list(EVERY_FAMILY).index(family) + number,
        camera=CameraRecipe(exposure=(exposure, exposure)),
    )
    counts, truth = simulate_scan(probe, _PIXEL_M, recipe)
    return counts, replace(truth, object=np.float32(np.sqrt(exposure)) * truth.object)


def stitched_figures(
    predict: Predict, probe: NDArray[np.complex64], family: str, series: ScanSeries
) -> Iterator[StitchedFigures]:
    """Judge a network on one family, exposure by exposure.

    Args:
        predict: the network.
        probe: (M, H, W) complex modes that take the scans.
        family: name in `EVERY_FAMILY`.
        series: how many scans are taken, and how.
    """
    for exposure in series.exposures:
        scans = (held_out_scan(probe, family, k, exposure, series) for k in range(series.objects))
        errors = [mosaic_errors(predict, *scan) for scan in scans]
        amplitudes = tuple(error.amplitude for error in errors if error.amplitude is not None)
        yield StitchedFigures(
            family=family,
            exposure=exposure,
            phase_rms_rad=tuple(error.phase_rad for error in errors),
            unturned_phase_rms_rad=tuple(error.unturned_phase_rad for error in errors),
            flat_phase_rms_rad=tuple(error.flat_phase_rad for error in errors),
            amplitude_rms=amplitudes or None,
            refined_phase_rms_rad=tuple(error.refined_phase_rad for error in errors),
            refined_flat_phase_rms_rad=tuple(error.refined_flat_phase_rad for error in errors),
            sweep_ms=min(error.sweep_ms for error in errors),
        )


def mosaic_errors(predict: Predict, counts: Counts, truth: Reference) -> MosaicErrors:
    """Stitch what a network makes of a scan on the circle, under the probe's weight, refine and compare it.

    Args:
        predict: the network.
        counts: (N, H, W) photons a pixel.
        truth: the true object, and where the frames' top-left corners lie on it.
    """
    painted = paint(predict, counts)
    shape, edge = painted.tile_shape, np.array(counts.shape[1:])
    corners = truth.positions_px.astype(np.int64) + edge // 2 - np.array(shape) // 2
    weight = probe_weight(truth.probe, shape)
    field = (truth.object.shape[0], truth.object.shape[1])
    stitch = partial(stitch_on_circle, painted.amplitude, painted.phase_rad, corners, field, weight)
    turned, unturned = stitch(gauge=True), stitch()
    mosaic, empty = transmission(turned.amplitude, turned.phase_rad), _empty(counts, truth)
    refined, sweep_ms = _refined(np.where(turned.coverage > 0, mosaic, empty), counts, truth)
    from_empty, _ = _refined(empty, counts, truth)
    return MosaicErrors(
        phase_rad=_phase_rms_rad(turned.phase_rad, turned.amplitude, truth),
        unturned_phase_rad=_phase_rms_rad(unturned.phase_rad, unturned.amplitude, truth),
        flat_phase_rad=_phase_rms_rad(np.zeros(field, np.float32), None, truth),
        amplitude=_amplitude_rms(turned, truth),
        refined_phase_rad=_phase_rms_rad(np.angle(refined), np.abs(refined), truth),
        refined_flat_phase_rad=_phase_rms_rad(np.angle(from_empty), np.abs(from_empty), truth),
        sweep_ms=sweep_ms,
    )


def _empty(counts: Counts, truth: Reference) -> NDArray[np.complex64]:
    """Return an object as large as the true one with nothing in it, as strong as the frames' light says."""
    strength = counts.sum(dtype=np.float64) / (len(counts) * intensity(truth.probe).sum(dtype=np.float64))
    return np.full(truth.object.shape, np.sqrt(strength), np.complex64)


def _refined(
    start: NDArray[np.complex64], counts: Counts, truth: Reference
) -> tuple[NDArray[np.complex64], float]:
    """Return an object after `SWEEPS` of refinement, and milliseconds of the processor a frame and sweep."""
    run = RefinementRun(frames_of(counts, truth.positions_px, truth.probe, start=start))
    spent = sum((run.iterate() for _ in range(SWEEPS)), Spent())
    return run.found()[0], 1e3 * spent.processor_s / (SWEEPS * len(counts))


def _lit(truth: Reference) -> NDArray[np.bool_]:
    lit: NDArray[np.bool_] = truth.coverage > KEPT_COVERAGE * truth.coverage.max()
    return lit


def _phase_rms_rad(phase_rad: Float32, amplitude: Float32 | None, truth: Reference) -> float:
    return circular_figures(
        phase_rad,
        np.angle(truth.object),
        _lit(truth).astype(np.float64),
        true_amplitude=np.abs(truth.object),
        estimated_amplitude=amplitude,
    ).rms_rad


def _amplitude_rms(found: Stitched, truth: Reference) -> float | None:
    if found.amplitude is None:
        return None
    return float(np.sqrt(np.mean(np.square(found.amplitude - np.abs(truth.object))[_lit(truth)])))
