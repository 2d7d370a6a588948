"""Iterative reconstruction of a whole scan: labels for networks, and the refinement of a mosaic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.judging.iterative_frames import Frames, frames_of
from training.judging.ptychi_engine import Engine, IterativeSettings, PtyChiRun

__all__ = ["Engine", "IterativeResult", "IterativeSettings", "iterate", "reconstruct", "refuse_divergence"]

Complex = NDArray[np.complex64]

_CHECKS = 5  # how often the residual is taken, beside that of the start


@dataclass(frozen=True, slots=True, eq=False)
class IterativeResult:
    """A reconstructed scan.

    Attributes:
        object: (Y, X) complex64; frame n saw `object[y : y + H, x : x + W]` with y, x = `top_left_px[n]`.
        probe: (M, H, W) complex64 modes, square-root photons a pixel.
        top_left_px: (N, 2) float64 top-left (row, column) of each frame's patch in `object`.
        seconds: that the iterations took, without set-up and residuals.
        seconds_per_frame: the same for each of the N frames, all iterations.
        residuals: iteration → `model.judge.forward_residual` after it, of some iterations; 0 is before the
            first.
        seconds_at: the same iterations → seconds of work by then.
        iterations: passes over all frames.
    """

    object: Complex
    probe: Complex
    top_left_px: NDArray[np.float64]
    seconds: float
    seconds_per_frame: float
    residuals: dict[int, float]
    seconds_at: dict[int, float]
    iterations: int


def reconstruct(
    counts: NDArray[Any],
    top_left_px: NDArray[np.floating[Any]],
    probe: Complex,
    settings: IterativeSettings,
    start: Complex | None = None,
    object_shape: tuple[int, int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> IterativeResult:
    """Reconstruct a scan.

    The model is I = Σ_m |F(P_m·O)|² with `model.optics.spectrum`; a fraction of a pixel in the positions
    shifts the probe. pty-chi shifts only the dominant mode: round the positions where weaker modes matter
    more than half a pixel.

    Args:
        counts: (N, H, W) photons a pixel, zero frequency at [H // 2, W // 2]. Every pixel counts: fill
            masked ones.
        top_left_px: (N, 2) top-left (row, column) of each frame's patch in the object, with fractions.
        probe: (M, H, W) complex64 modes, square-root photons a pixel, the dominant mode first.
        settings: of the engine.
        start: (Y, X) object to start from, else an empty one.
        object_shape: (Y, X) of the object, else that of `start`, else the smallest that holds all patches.
        progress: called with the number of iterations done, after each.

    Raises:
        ValueError: the arrays do not fit each other, a patch reaches beyond the object, or the engine
            diverged.
    """
    return iterate(frames_of(counts, top_left_px, probe, start, object_shape), settings, progress)


def iterate(
    scan: Frames,
    settings: IterativeSettings,
    progress: Callable[[int], None] | None = None,
    checks: int = _CHECKS,
) -> IterativeResult:
    """Reconstruct a scan whose frames have been checked.

    Args:
        scan: frames, probe, positions and start.
        settings: of the engine.
        progress: called with the number of iterations done, after each.
        checks: how often the residual is taken, beside that of the start.

    Raises:
        ValueError: pty-chi is not installed, or the engine diverged.
    """
    run = PtyChiRun(scan, settings)
    transmission, probe = scan.start, scan.probe
    residuals, seconds_at = {0: scan.residual(transmission, probe)}, {0: 0.0}
    checked = _check_at(settings.iterations, checks)
    seconds = 0.0
    for iteration in range(1, settings.iterations + 1):
        seconds += run.iterate().wall_s
        if progress is not None:
            progress(iteration)
        if iteration in checked:
            transmission, probe = run.found()
            residuals[iteration] = scan.residual(transmission, probe, run.top_left_px())
            seconds_at[iteration] = seconds
            refuse_divergence(residuals[iteration], iteration)
    return IterativeResult(
        object=transmission,
        probe=probe,
        top_left_px=run.top_left_px(),
        seconds=seconds,
        seconds_per_frame=seconds / len(scan.counts),
        residuals=residuals,
        seconds_at=seconds_at,
        iterations=settings.iterations,
    )


def _check_at(iterations: int, checks: int) -> set[int]:
    return {int(i) for i in np.ceil(np.linspace(0, iterations, checks + 1))[1:]}


def refuse_divergence(residual: float, iteration: int) -> None:
    """Raise ValueError where an engine's residual is no number any more."""
    if not np.isfinite(residual):
        raise ValueError(
            f"the engine diverged by iteration {iteration}: take a smaller batch, and check that the "
            "probe's power fits the counts"
        )
