"""What each part of stitching is worth: the same tiles stitched with one part more each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.judge import likeness
from training.judging.evaluation import transmission
from training.judging.iterative_frames import frames_of
from training.judging.painted_scan import PaintedScan
from training.judging.refinement_run import RefinementRun
from training.judging.stitching import Stitched, stitch_angles, stitch_on_circle, stitch_settled

SWEEPS = 2
"""Of refinement, after which each mosaic is judged once more: few, so that the start still tells."""

Complex64 = NDArray[np.complex64]
Refine = Callable[[Complex64], Complex64]


@dataclass(frozen=True, slots=True)
class StitchingWay:
    """A way to stitch, and what becomes of the mosaic.

    Attributes:
        name: what was done.
        phase_rms_rad: root mean square of the circular phase error, one global phase removed.
        phase_correlation: Pearson's.
        amplitude_rms: of the amplitude error; None from a network that predicts phase only.
        refined_phase_rms_rad: after `SWEEPS` of the service's refinement; None where nothing refined it.
    """

    name: str
    phase_rms_rad: float
    phase_correlation: float
    amplitude_rms: float | None
    refined_phase_rms_rad: float | None = None


def stitching_ways(scan: PaintedScan, refine: Refine | None = None) -> tuple[StitchingWay, ...]:
    """Stitch the tiles of a scan with more and more care, and judge each mosaic where the scan says.

    Where all positions are whole pixels there is no way that places tiles between them.

    Args:
        scan: its tiles.
        refine: what refines an object (Y, X), see `sweeping`; None: nothing does.

    Raises:
        ValueError: nothing is left to compare.
    """
    return tuple(_judged(name, stitched, scan, refine) for name, stitched in _mosaics(scan))


def sweeping(counts: NDArray[Any], positions_px: NDArray[np.float64], probe: Complex64) -> Refine:
    """Return what refines an object by `SWEEPS` over the frames of a scan.

    Args:
        counts: (n, H, W) photons a pixel.
        positions_px: (n, 2) top-left (row, column) of each frame's patch in the object.
        probe: (M, H, W) complex modes.
    """

    def refine(start: Complex64) -> Complex64:
        run = RefinementRun(frames_of(counts, positions_px, probe, start=start))
        for _ in range(SWEEPS):
            run.iterate()
        return run.found()[0]

    return refine


def mean_ways(scans: Sequence[tuple[StitchingWay, ...]]) -> tuple[StitchingWay, ...]:
    """Return the figures of each way, averaged over scans."""
    return tuple(_mean(ways) for ways in zip(*scans, strict=True))


def _mean(ways: tuple[StitchingWay, ...]) -> StitchingWay:
    amplitudes = [way.amplitude_rms for way in ways if way.amplitude_rms is not None]
    refined = [way.refined_phase_rms_rad for way in ways if way.refined_phase_rms_rad is not None]
    return StitchingWay(
        ways[0].name,
        float(np.mean([way.phase_rms_rad for way in ways])),
        float(np.mean([way.phase_correlation for way in ways])),
        float(np.mean(amplitudes)) if amplitudes else None,
        float(np.mean(refined)) if refined else None,
    )


def _mosaics(scan: PaintedScan) -> Iterator[tuple[str, Stitched]]:
    amplitude, phase_rad = scan.painted.amplitude, scan.painted.phase_rad
    roomy = (scan.shape[0] + 2, scan.shape[1] + 2)
    whole, fine, weight = scan.whole_corners_px + 1, scan.corners_px + 1, scan.weight
    yield "plain mean, whole pixels", stitch_on_circle(amplitude, phase_rad, whole, roomy)
    yield "+ weight: probe's light", stitch_on_circle(amplitude, phase_rad, whole, roomy, weight)
    placed = stitch_on_circle(amplitude, phase_rad, fine, roomy, weight)
    if (whole != fine).any():
        yield "+ fractions of a pixel", placed
    yield "the same, angles averaged", stitch_angles(amplitude, phase_rad, fine, roomy, weight)
    turned = stitch_on_circle(amplitude, phase_rad, fine, roomy, weight, gauge=True)
    yield "+ tiles turned to fit", turned
    yield "turned to fit all others", stitch_settled(amplitude, phase_rad, fine, roomy, weight)


def _judged(name: str, stitched: Stitched, scan: PaintedScan, refine: Refine | None) -> StitchingWay:
    inner = np.s_[1:-1, 1:-1]
    amplitude = None if stitched.amplitude is None else stitched.amplitude[inner]
    mosaic = transmission(amplitude, stitched.phase_rad[inner])
    found = likeness(mosaic, scan.truth, scan.where)
    refined = None
    if refine is not None:
        start = np.where(stitched.coverage[inner] > 0, mosaic, 1).astype(np.complex64)
        refined = likeness(refine(start), scan.truth, scan.where).phase_rms_rad
    return StitchingWay(
        name,
        found.phase_rms_rad,
        found.phase_correlation,
        None if amplitude is None else found.amplitude_rms,
        refined,
    )
