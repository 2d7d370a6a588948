"""One training run on a labelled set in plain values, and the configuration that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from model.network import NetworkConfig
from model.sadgs import SadgsConfig, percentile_counts
from training.datasets.labelled import LabelledSet
from training.datasets.sets import open_set
from training.datasets.splits import Indices, SplitName
from training.method import Recipe
from training.methods import METHODS
from training.plan import PERCENTILE, Precision
from training.task import ScheduleConfig, TaskConfig


@dataclass(frozen=True, slots=True)
class LabelledPlan:
    """One training run of a published method on a labelled set.

    Attributes:
        data: a set of training.datasets.sets by name, or a file.
        method: of training.methods.
        split: of the set.
        epochs: passes over the training frames; None: as many as the method was published with. The
            learning rate's cycle shrinks or grows with them.
        precision: Lightning's word, e.g. "bf16-mixed".
        seed: of weights and of the order of frames.
    """

    data: str
    method: str = "paper"
    split: SplitName = "rows"
    epochs: int | None = None
    precision: Precision = "32-true"
    seed: int = 1

    @property
    def network(self) -> str:
        """The method of training.methods whose network learns."""
        return self.method

    @property
    def recipe(self) -> Recipe:
        """How the method is trained as published."""
        return METHODS[self.network].recipe

    @property
    def total_epochs(self) -> int:
        """Passes over the training frames."""
        return self.epochs or self.recipe.epochs

    def open_data(self) -> LabelledSet:
        """Make or read the set, with intensities as the method was published on.

        Raises:
            ScanFileError: there is no such set, or the file cannot be used.
        """
        data = open_set(self.data)
        return data.in_photons() if METHODS[self.network].raw_counts else data

    def as_record(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)


def configure_labelled(plan: LabelledPlan, data: LabelledSet, train: Indices) -> TaskConfig:
    """Fix SADGS's percentile on the training frames alone and return the whole configuration.

    Args:
        plan: of the run.
        data: the set.
        train: indices of the frames to learn from.

    Raises:
        ValueError: the frames are dark, or of a size that the network cannot run at.
    """
    percentile = PERCENTILE["paper"]
    counts = percentile_counts(torch.as_tensor(data.counts[train]), percentile)
    network = NetworkConfig(
        kind="paper",
        sadgs=SadgsConfig(counts, percentile),
        frame_shape=data.frame_shape,
        tile_shape=data.tile_shape,
    )
    return TaskConfig(
        network,
        schedule=_schedule(plan, len(train)),
        method=plan.network,
        optimiser=plan.recipe.optimiser,
    )


def _schedule(plan: LabelledPlan, frames: int) -> ScheduleConfig:
    """Return the method's cycle in iterations, stretched to the epochs that are asked for."""
    recipe = plan.recipe
    stretch = plan.total_epochs / recipe.epochs
    steps_an_epoch = -(-frames // recipe.batch)
    return ScheduleConfig(
        kind="constant" if recipe.low == recipe.high else "cyclic",
        low=recipe.low,
        high=recipe.high,
        half_cycle_steps=max(1, round(recipe.half_cycle_epochs * stretch * steps_an_epoch)),
    )
