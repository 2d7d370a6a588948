import pytest

from training.frames import EVALUATION_SEED, VALIDATION_SEED, SimulatedFrames, device_batches
from training.plan import TrainingPlan


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_devices_share_the_batches_without_overlap_or_gap(devices):
    shares = [device_batches(2, 7, rank, devices) for rank in range(devices)]
    assert all(len(share) == 5 for share in shares)  # a batch a step, on each
    assert sorted(k for share in shares for k in share) == list(range(2 * devices, 7 * devices))


def test_one_device_takes_batch_k_at_step_k():
    assert list(device_batches(3, 6, 0, 1)) == [3, 4, 5]


def test_held_out_frames_are_the_same_each_time_and_not_those_of_training(probe, scan):
    frames = SimulatedFrames(TrainingPlan(scan, tile_px=32, batch=2), probe, (32, 32))
    once, again = ([sample[0] for sample in frames.val_dataloader()] for _ in range(2))
    assert len(once) == 8
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert len({0, VALIDATION_SEED, EVALUATION_SEED}) == 3


def test_training_frames_need_a_trainer(probe, scan):
    with pytest.raises(RuntimeError, match="trainer"):
        SimulatedFrames(TrainingPlan(scan, tile_px=32), probe, (32, 32)).train_dataloader()
