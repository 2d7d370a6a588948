"""The batches of a run: what it learns from, and what it is checked on meanwhile."""

from __future__ import annotations

import lightning
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from training.plan import TrainingPlan
from training.simulate import FrameFactory, Sample

VALIDATION_SEED = 1_000_000  # added to the run's: the objects that choose the best checkpoint
EVALUATION_SEED = 2_000_000  # added to the run's: the objects of the figures, which chose nothing
VALIDATION_BATCHES = 8


class SimulatedFrames(lightning.LightningDataModule):
    """Training batches from the trainer's own step on, and the held-out ones.

    Of several devices each gets batches of its own, and all look at the same held-out frames.
    """

    def __init__(
        self, plan: TrainingPlan, probe: NDArray[np.complex64], tile_shape: tuple[int, int], workers: int = 0
    ) -> None:
        """Prepare.

        Args:
            plan: of the run.
            probe: (M, H, W) complex modes.
            tile_shape: (h, w) of the true tiles.
            workers: processes that simulate beside the training; 0: it does so itself.
        """
        super().__init__()
        self.plan, self.probe, self.tile_shape, self.workers = plan, probe, tile_shape, workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """Give the batches of this device that the run has not seen."""
        if self.trainer is None:
            raise RuntimeError("the frames belong to no trainer yet: hand them to its fit()")
        rank, devices = self.trainer.global_rank, self.trainer.world_size
        batches = device_batches(self.trainer.global_step, self.plan.total_steps, rank, devices)
        return DataLoader(self._factory(0, batches), batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Give the held-out batches, the same each time."""
        return DataLoader(self._factory(VALIDATION_SEED, range(VALIDATION_BATCHES)), batch_size=None)

    def _factory(self, seed: int, batches: range) -> FrameFactory:
        plan = self.plan
        return FrameFactory(
            self.probe, self.tile_shape, plan.batch, plan.seed + seed, plan.recipe, batches=batches
        )


def device_batches(first: int, steps: int, rank: int, devices: int) -> range:
    """Return the numbers of the batches of steps `first` to `steps` on device `rank` of `devices`."""
    return range(first * devices + rank, steps * devices, devices)
