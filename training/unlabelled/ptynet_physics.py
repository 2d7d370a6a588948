"""`ptynet-physics`: PtyNet's second stage, in which a trained network is tuned by the frames' patterns alone.

Pan et al., iScience (2023), PMC10687283; the first stage is the method `ptynet`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR

from training.baselines.ptynet import HALVING_EPOCHS, PHYSICS_RECIPE, physics_loss
from training.checkpoint import CheckpointError, read_checkpoint
from training.datasets.labelled import LabelledSet, LabelUnits
from training.labelled_plan import LabelledPlan
from training.method import Recipe, ScalarPrediction, read_out
from training.run import Run, prepare
from training.simulation.factory import Sample
from training.task import ReconstructionTask, TaskConfig, tile_errors

PHYSICS_METHOD, TRAINED_METHOD = "ptynet-physics", "ptynet"


@dataclass(frozen=True, slots=True)
class PhysicsPlan(LabelledPlan):
    """One run of the second stage; the labels of the set are for information only.

    Attributes:
        start: checkpoint of the first stage.
    """

    method: str = PHYSICS_METHOD
    start: Path = Path("best.ckpt")

    @property
    def network(self) -> str:
        """The method of training.methods whose network learns."""
        return TRAINED_METHOD

    @property
    def recipe(self) -> Recipe:
        """How the second stage is run as published."""
        return PHYSICS_RECIPE

    def open_data(self) -> LabelledSet:
        """Make or read the set, with intensities as photons, which a pattern is compared with.

        Raises:
            ScanFileError: there is no such set, or the file cannot be used.
        """
        return LabelledPlan(self.data, self.network).open_data().in_photons()

    def as_record(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {**asdict(self), "start": str(self.start)}


class PhysicsTask(ReconstructionTask):
    """Tune PtyNet by how far the patterns of its tiles lie from the counts."""

    modes: Tensor  # (M, H, W) complex64

    def __init__(
        self,
        config: TaskConfig,
        probe: NDArray[np.complex64],
        record: dict[str, Any],
        units: LabelUnits,
        halving_epochs: int,
    ) -> None:
        """Build the network.

        Args:
            config: network and first learning rate.
            probe: (M, H, W) complex modes, square-root photons a pixel.
            record: plain values about the run to keep in the checkpoint besides.
            units: what the numbers that the network learned in the first stage mean.
            halving_epochs: after which the learning rate is halved, again and again.
        """
        super().__init__(config, probe, record)
        self.units, self.halving_epochs = units, halving_epochs
        self.register_buffer("modes", torch.as_tensor(probe), persistent=False)

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the physics loss."""
        batch = Sample(*batch)
        loss = self._misfit(read_out(self(batch.counts)), batch.counts)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Sample, _: int) -> None:
        """Log the physics loss, by which the best checkpoint is chosen; and, for information, errors."""
        batch = Sample(*batch)
        prediction = read_out(self(batch.counts))
        figures = {
            "val/loss": self._misfit(prediction, batch.counts),
            "val/phase_rms_rad": tile_errors(prediction, batch, self.loss_weight).phase_rad.mean(),
        }
        self.log_dict(figures, prog_bar=True, batch_size=len(batch.counts), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Return Adam and the published schedule, which steps once an epoch."""
        optimizer = Adam(self.network.parameters(), lr=self.config.schedule.high)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, self.halving_epochs, gamma=0.5)}

    def _misfit(self, prediction: ScalarPrediction, counts: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):  # counts need float32
            return physics_loss(in_units(prediction, self.units), counts, self.modes)


def in_units(prediction: ScalarPrediction, units: LabelUnits) -> ScalarPrediction:
    """Return what a prediction in the labels' numbers stands for: transmission and radians."""
    amplitude = prediction.amplitude
    return ScalarPrediction(
        None if amplitude is None else units.amplitude_offset + units.amplitude_scale * amplitude.float(),
        units.phase_offset_rad + units.phase_scale * prediction.phase_rad.float(),
    )


def prepare_physics(
    plan: PhysicsPlan, out: Path, workers: int = 0, trainer_options: dict[str, Any] | None = None
) -> Run:
    """Make everything of a second stage but its first step, as `training.run.prepare` does.

    Raises:
        ScanFileError: there is no set to tune on.
        CheckpointError: the start is no checkpoint of the first stage.
        ValueError: set, plan and start do not fit, or the run in `out` had another plan.
        MisconfigurationException: Lightning cannot follow the options.
    """
    start = read_checkpoint(plan.start)
    if start.config.method != TRAINED_METHOD:
        raise CheckpointError(
            f"{plan.start} was not trained with --method {TRAINED_METHOD}: only that is tuned"
        )
    run = prepare(plan, out, workers, trainer_options)
    halving = max(1, round(HALVING_EPOCHS * plan.total_epochs / PHYSICS_RECIPE.epochs))
    task = PhysicsTask(
        replace(start.config, schedule=run.task.config.schedule),
        run.task.known_probe(),
        run.task.record,
        plan.open_data().units,
        halving,
    )
    task.load_state_dict(start.weights)
    return run._replace(task=task)
