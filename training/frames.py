"""The batches of a run: what it learns from, and what it is checked on meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from training.datasets.labelled import LabelledSet
from training.datasets.splits import Indices, Split
from training.plan import TrainingPlan
from training.simulation.factory import FrameFactory, Sample

VALIDATION_SEED = 1_000_000  # added to the run's: the objects that choose the best checkpoint
EVALUATION_SEED = 2_000_000  # added to the run's: the objects of the figures, which chose nothing
DEVICE_SEED = 10_000_000  # times the device's rank, added to the run's: each learns from its own objects
VALIDATION_BATCHES = 8
VALIDATION_TILES_PER_OBJECT = 4  # few, so that the best checkpoint is chosen by many objects


class SimulatedFrames(lightning.LightningDataModule):
    """Training batches from the trainer's own step on, and the held-out ones.

    Of several devices each gets batches of its own, and all look at the same held-out frames, which are
    made once.
    """

    def __init__(
        self, plan: TrainingPlan, probe: NDArray[np.complex64], tile_shape: tuple[int, int], workers: int = 0
    ) -> None:
        """Prepare.

        Args:
            plan: of the run.
            probe: (M, H, W) complex modes.
            tile_shape: (h, w) of the true tiles.
            workers: processes that draw objects beside the training; 0: it does so itself.
        """
        super().__init__()
        self.plan, self.probe, self.tile_shape, self.workers = plan, probe, tile_shape, workers

    def train_dataloader(self) -> FrameFactory:
        """Give the batches of this device that the run has not seen, made on it where it is a GPU."""
        if self.trainer is None:
            raise RuntimeError("the frames belong to no trainer yet: hand them to its fit()")
        device = self.trainer.strategy.root_device
        return FrameFactory(
            self.probe,
            self.tile_shape,
            self.plan.batch,
            self.plan.seed + DEVICE_SEED * self.trainer.global_rank,
            self.plan.recipe,
            range(self.trainer.global_step, self.plan.total_steps),
            workers=self.workers,
            device=device if device.type == "cuda" else "cpu",
        )

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Give the held-out batches, the same each time and on every device."""
        return DataLoader(self._held_out, self.plan.batch)

    @cached_property
    def _held_out(self) -> TensorDataset:
        plan = self.plan
        recipe = replace(plan.recipe, tiles_per_object=VALIDATION_TILES_PER_OBJECT)
        seed, batches = plan.seed + VALIDATION_SEED, range(VALIDATION_BATCHES)
        factory = FrameFactory(self.probe, self.tile_shape, plan.batch, seed, recipe, batches)
        return TensorDataset(*(torch.cat(planes) for planes in zip(*factory, strict=True)))


class LabelledFrames(lightning.LightningDataModule):
    """The training and validation frames of a split; the test frames are for `evaluate` alone."""

    def __init__(self, data: LabelledSet, split: Split, batch: int, seed: int, workers: int = 0) -> None:
        """Prepare.

        Args:
            data: the set.
            split: of it.
            batch: frames a step.
            seed: of the order of frames, with the number of the epoch.
            workers: processes that gather batches beside the training; 0: it does so itself.
        """
        super().__init__()
        self.data, self.split, self.batch, self.seed, self.workers = data, split, batch, seed, workers

    def train_dataloader(self) -> DataLoader[Sample]:
        """Give the training frames, in an order of its own each epoch."""
        order = EpochOrder(len(self.split.train), self.seed)
        return self._loader(self.split.train, order)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Give the held-out frames, in order."""
        return self._loader(self.split.validation, None)

    def _loader(self, frames: Indices, order: Sampler[int] | None) -> DataLoader[Sample]:
        return DataLoader(
            LabelledSamples(self.data, frames), self.batch, sampler=order, num_workers=self.workers
        )


class EpochOrder(Sampler[int]):
    """A random order that only the seed and the epoch decide, so that a run that goes on sees the same."""

    def __init__(self, frames: int, seed: int) -> None:
        self.frames, self.seed, self.epoch = frames, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch; Lightning calls this at the start of each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Give each frame once."""
        order = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        yield from torch.randperm(self.frames, generator=order).tolist()

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.frames


class LabelledSamples(Dataset[Sample]):
    """Single frames (1, H, W) of a set with their tiles (1, h, w); the set is not copied."""

    def __init__(self, data: LabelledSet, frames: Indices) -> None:
        self.data, self.frames = data, frames

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.frames)

    def __getitem__(self, place: int) -> Sample:
        """Return one frame."""
        n = self.frames[place]
        phase = self.data.phase_rad[n]
        planes = (self.data.counts[n], self.data.amplitude[n], np.cos(phase), np.sin(phase))
        return Sample(*(torch.as_tensor(plane)[None] for plane in planes))
