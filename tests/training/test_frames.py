from dataclasses import dataclass, field

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from training.frames import (
    DEVICE_SEED,
    EVALUATION_SEED,
    VALIDATION_SEED,
    SimulatedFrames,
)
from training.plan import TrainingPlan
from training.simulation.factory import SimulationRecipe

SMALL = SimulationRecipe(object_size=64, tiles_per_object=4, pool_objects=4)


def test_held_out_frames_are_the_same_each_time_and_not_those_of_training(probe, scan):
    frames = SimulatedFrames(TrainingPlan(scan, tile_px=32, batch=2, recipe=SMALL), probe, (32, 32))
    once, again = ([sample[0] for sample in frames.val_dataloader()] for _ in range(2))
    assert len(once) == 8
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert len({0, VALIDATION_SEED, EVALUATION_SEED, DEVICE_SEED}) == 4


def test_held_out_frames_are_made_once_for_all_looks(probe, scan):
    frames = SimulatedFrames(TrainingPlan(scan, tile_px=32, batch=2, recipe=SMALL), probe, (32, 32))
    assert frames.val_dataloader().dataset is frames.val_dataloader().dataset


@dataclass
class Rank:
    """What the frames ask of a trainer."""

    global_rank: int
    global_step: int = 0
    strategy: object = field(default_factory=SingleDeviceStrategy)


def test_each_device_learns_from_objects_of_its_own_and_goes_on_where_it_stopped(probe, scan):
    frames = SimulatedFrames(
        TrainingPlan(scan, tile_px=32, batch=2, samples=8, recipe=SMALL), probe, (32, 32)
    )
    batches = []
    for trainer in (Rank(0), Rank(1), Rank(0, global_step=3)):
        frames.trainer = trainer
        batches.append([sample.counts for sample in frames.train_dataloader()])
    assert [len(given) for given in batches] == [4, 4, 1]
    assert not torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[2][0], batches[0][3])


def test_training_frames_need_a_trainer(probe, scan):
    with pytest.raises(RuntimeError, match="trainer"):
        SimulatedFrames(TrainingPlan(scan, tile_px=32), probe, (32, 32)).train_dataloader()
