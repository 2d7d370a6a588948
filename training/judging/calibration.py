"""When a network is to be believed: how its forward residual goes with its error, on frames it never saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import TrustDescription
from model.probe_informed import ProbeInformedNetwork
from training.judging.families import held_out_frames
from training.method import read_out
from training.plan import TrainingPlan
from training.simulation.factory import Sample
from training.simulation.objects import EVERY_FAMILY
from training.task import ReconstructionTask, tile_errors

BINS = 10
_Real = NDArray[np.float64]


def calibrate_trust(task: ReconstructionTask, plan: TrainingPlan, tiles: int) -> TrustDescription | None:
    """Return what the residual of a frame says of its error; None where the network knows no probe.

    Residual and error are taken at the probe's own exposure: a frame of fewer counts has a larger residual
    by its noise alone.

    Args:
        task: trained.
        plan: of its training.
        tiles: of each family of objects, those that it never learned from too.

    Raises:
        ValueError: there are too few tiles for a calibration.
    """
    if task.config.network.kind == "paper":
        return None
    camera = replace(plan.recipe.camera, exposure=(1.0, 1.0))
    steady = replace(plan, recipe=replace(plan.recipe, camera=camera))
    residual, error_rad = _judged(task.eval(), steady, tiles)
    return TrustDescription(
        residual=_percentiles(residual, 50, 99),
        error_rad=error_curve(residual, error_rad),
        frame_counts=_percentiles(_photons(task, plan, tiles), 1, 99),
    )


def error_curve(residual: _Real, error_rad: _Real, bins: int = BINS) -> tuple[tuple[float, float], ...]:
    """Return pairs (mean residual, root mean square error) of equally many frames each, both rising.

    Args:
        residual: (n,) of frames.
        error_rad: (n,) root mean square phase error of the same.
        bins: how many pairs, at most.

    Raises:
        ValueError: there are not two frames of different residual a bin.
    """
    if len(residual) < 2 * bins:
        raise ValueError(f"{len(residual)} frames are too few for a curve of {bins} points")
    order = np.array_split(np.argsort(residual), bins)
    means = [float(residual[some].mean()) for some in order]
    errors = np.maximum.accumulate([float(np.sqrt(np.mean(error_rad[some] ** 2))) for some in order])
    rising = np.concatenate([[True], np.diff(means) > 0])
    return tuple((means[i], float(errors[i])) for i in np.flatnonzero(rising))


def _judged(task: ReconstructionTask, plan: TrainingPlan, tiles: int) -> tuple[_Real, _Real]:
    """Return forward residual and phase error in radians of frames of every family, each (n,)."""
    network = cast(ProbeInformedNetwork, task.network)
    rows: list[torch.Tensor] = []
    for sample in _frames(task, plan, tiles):
        with torch.inference_mode():
            said, residual = network.explained(sample.counts)
            error = tile_errors(read_out(said), sample, task.loss_weight).phase_rad
            rows.append(torch.stack([residual, error]))
    residuals, errors_rad = torch.cat(rows, dim=1).double().numpy()
    return residuals, errors_rad


def _photons(task: ReconstructionTask, plan: TrainingPlan, tiles: int) -> _Real:
    """Return the photons of frames of every family, (n,); no network is needed for them."""
    sums = [
        torch.where(task.valid_pixels(sample.counts), sample.counts, 0.0).sum(dim=(1, 2, 3))
        for sample in _frames(task, plan, tiles)
    ]
    photons: _Real = torch.cat(sums).double().numpy()
    return photons


def _frames(task: ReconstructionTask, plan: TrainingPlan, tiles: int) -> Iterator[Sample]:
    for family in EVERY_FAMILY:
        yield from held_out_frames(plan, task, family, tiles)


def _percentiles(values: _Real, low: float, high: float) -> tuple[float, float]:
    lower, upper = np.percentile(values, [low, high])
    return float(lower), float(upper)
