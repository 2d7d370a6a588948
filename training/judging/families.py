"""What a trained network reaches on simulated frames that chose nothing of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.frames import EVALUATION_SEED
from training.method import ScalarPrediction, read_out
from training.plan import TrainingPlan
from training.simulation.factory import FrameFactory, Sample, probe_weight_map
from training.task import ReconstructionTask, TileErrors, tile_errors

TILES_PER_OBJECT = 4  # few, so that a row is about many objects
BATCH = 16


class Instrument(NamedTuple):
    """What frames are made with and where tiles are judged, whatever a network knows or paints.

    Attributes:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        tile_shape: (h, w) of the middle that is judged.
    """

    probe: NDArray[np.complex64]
    tile_shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over tiles."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class FamilyFigures:
    """Errors on the objects of one family.

    Attributes:
        family: name in `EVERY_FAMILY`.
        shown_in_training: whether the network learned from objects of this family.
        tiles: how many were judged.
        phase_rms_rad: of each tile, circular, under the probe's weight, in the gauge Σ|P|²·O > 0, radians.
        amplitude_rms: of each tile, under the probe's weight; None of a network that predicts phase only.
    """

    family: str
    shown_in_training: bool
    tiles: int
    phase_rms_rad: Spread
    amplitude_rms: Spread | None


def held_out_frames(
    plan: TrainingPlan,
    task: ReconstructionTask,
    family: str,
    tiles: int,
    instrument: Instrument | None = None,
) -> Iterable[Sample]:
    """Give `tiles` frames of one family whose objects neither taught the network nor chose its checkpoint.

    Args:
        plan: of the network; its seed and recipe make the frames.
        task: that learned.
        family: name in `EVERY_FAMILY`.
        tiles: how many.
        instrument: that makes them; the probe that the network knows, and its tile, where None.
    """
    probe, shape = instrument or known_instrument(task)
    objects = replace(plan.recipe.objects, families=(family,), known=None)
    recipe = replace(plan.recipe, objects=objects, tiles_per_object=TILES_PER_OBJECT)
    seed, batch = plan.seed + EVALUATION_SEED, min(BATCH, tiles)
    batches = range(math.ceil(tiles / batch))
    for k, sample in enumerate(FrameFactory(probe, shape, batch, seed, recipe, batches)):
        yield Sample(*(planes[: tiles - k * batch] for planes in sample))


def known_instrument(task: ReconstructionTask) -> Instrument:
    """Return the probe that the network knows, judged wherever it paints.

    Raises:
        ValueError: it knows none.
    """
    return Instrument(task.known_probe(), task.config.network.tile_shape)


def family_figures(
    task: ReconstructionTask,
    plan: TrainingPlan,
    family: str,
    tiles: int,
    instrument: Instrument | None = None,
) -> FamilyFigures:
    """Judge the network on one family; arguments as of `held_out_frames`."""
    instrument = instrument or known_instrument(task)
    weight = probe_weight_map(*instrument)
    frames = held_out_frames(plan, task, family, tiles, instrument)
    errors = [_errors(task.eval(), sample, weight) for sample in frames]
    amplitudes = [error.amplitude for error in errors if error.amplitude is not None]
    return FamilyFigures(
        family=family,
        shown_in_training=family in plan.recipe.objects.families,
        tiles=tiles,
        phase_rms_rad=_spread(torch.cat([e.phase_rad for e in errors])),
        amplitude_rms=_spread(torch.cat(amplitudes)) if amplitudes else None,
    )


def _errors(task: ReconstructionTask, sample: Sample, weight: Tensor) -> TileErrors:
    with torch.inference_mode():
        said = read_out(task(sample.counts))
    middle = (None if plane is None else _middle(plane, sample.cos) for plane in said)
    return tile_errors(ScalarPrediction(*middle), sample, weight)  # type: ignore[arg-type]  # as `said` has


def _middle(plane: Tensor, truth: Tensor) -> Tensor:
    """Return the centre of a painted plane (N, 1, H, W) that the true tile (N, 1, h, w) covers."""
    top, left = (n // 2 - m // 2 for n, m in zip(plane.shape[-2:], truth.shape[-2:], strict=True))
    return plane[..., top : top + truth.shape[-2], left : left + truth.shape[-1]]


def _spread(values: Tensor) -> Spread:
    return Spread(float(values.mean()), float(values.std(correction=0)))
