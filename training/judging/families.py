"""What a trained network reaches on simulated frames that chose nothing of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.frames import EVALUATION_SEED
from training.method import read_out
from training.plan import TrainingPlan
from training.simulation.factory import FrameFactory, Sample
from training.task import ReconstructionTask, TileErrors, tile_errors

TILES_PER_OBJECT = 4  # few, so that a row is about many objects
BATCH = 16


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
        amplitude_rms: of each tile, under the probe's weight.
    """

    family: str
    shown_in_training: bool
    tiles: int
    phase_rms_rad: Spread
    amplitude_rms: Spread


def held_out_frames(
    plan: TrainingPlan, task: ReconstructionTask, family: str, tiles: int
) -> Iterable[Sample]:
    """Give `tiles` frames of one family whose objects neither taught the network nor chose its checkpoint."""
    objects = replace(plan.recipe.objects, families=(family,))
    recipe = replace(plan.recipe, objects=objects, tiles_per_object=TILES_PER_OBJECT)
    seed, batch = plan.seed + EVALUATION_SEED, min(BATCH, tiles)
    batches = range(math.ceil(tiles / batch))
    shape = task.config.network.tile_shape
    for k, sample in enumerate(FrameFactory(task.known_probe(), shape, batch, seed, recipe, batches)):
        yield Sample(*(planes[: tiles - k * batch] for planes in sample))


def family_figures(task: ReconstructionTask, plan: TrainingPlan, family: str, tiles: int) -> FamilyFigures:
    """Judge the network on one family."""
    errors = [_errors(task.eval(), sample) for sample in held_out_frames(plan, task, family, tiles)]
    return FamilyFigures(
        family=family,
        shown_in_training=family in plan.recipe.objects.families,
        tiles=tiles,
        phase_rms_rad=_spread(torch.cat([e.phase_rad for e in errors])),
        amplitude_rms=_spread(torch.cat([e.amplitude for e in errors if e.amplitude is not None])),
    )


def _errors(task: ReconstructionTask, sample: Sample) -> TileErrors:
    with torch.inference_mode():
        return tile_errors(read_out(task(sample.counts)), sample, task.loss_weight)


def _spread(values: Tensor) -> Spread:
    return Spread(float(values.mean()), float(values.std(correction=0)))
