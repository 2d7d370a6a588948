import math

import pytest
import torch
from torch.optim import Adam

from model.losses import LossWeights
from model.network import Prediction
from model.sadgs import SadgsConfig
from training.method import ScalarPrediction
from training.simulation.camera import CameraRecipe
from training.simulation.factory import FrameFactory, Sample, SimulationRecipe
from training.task import NetworkConfig, ReconstructionTask, ScheduleConfig, TaskConfig, tile_errors


def rates(schedule, steps):
    optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=schedule.high)
    scheduler, seen = schedule.build(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_papers_rate_is_a_triangle_whose_second_peak_is_half_as_high():
    seen = rates(ScheduleConfig("cyclic", low=1e-4, high=1e-3, half_cycle_steps=10), 41)
    assert seen[0] == pytest.approx(1e-4)
    assert seen[10] == pytest.approx(1e-3)
    assert seen[20] == pytest.approx(1e-4)
    assert seen[30] == pytest.approx(1e-4 + 0.9e-3 / 2)


def test_one_cycle_warms_up_over_a_twentieth_and_ends_at_nothing():
    seen = rates(ScheduleConfig("one-cycle", high=1e-3, total_steps=200), 201)
    assert seen[0] == pytest.approx(1e-5)
    assert max(seen) == pytest.approx(1e-3, rel=0.02)
    assert 8 <= seen.index(max(seen)) <= 11
    assert seen[200] == pytest.approx(0, abs=1e-9)


def planes(angle, amplitude=1.0):
    shape = (2, 1, 16, 16)
    return (
        torch.full(shape, amplitude),
        torch.full(shape, math.cos(angle)),
        torch.full(shape, math.sin(angle)),
    )


def test_the_phase_error_of_a_tile_is_circular():
    a, _, _ = planes(3.1)
    errors = tile_errors(
        ScalarPrediction(a, torch.full_like(a, 3.1)), Sample(a, *planes(-3.1)), torch.ones(1, 1, 16, 16)
    )
    torch.testing.assert_close(errors.phase_rad, torch.full((2,), 2 * math.pi - 6.2), atol=1e-4, rtol=0)
    assert errors.amplitude.tolist() == [0, 0]


def test_errors_are_of_each_tile_and_count_where_the_light_is():
    a, cos, sin = planes(0.0)
    off = a.clone()
    off[1, :, :8] += 0.3
    weight = torch.zeros(1, 1, 16, 16)
    weight[..., 8:, :] = 2
    wrong, dark = torch.ones(1, 1, 16, 16), weight
    prediction, truth = ScalarPrediction(off, torch.zeros_like(a)), Sample(a, a, cos, sin)
    assert tile_errors(prediction, truth, wrong).amplitude.tolist() == pytest.approx([0, 0.3 / math.sqrt(2)])
    assert tile_errors(prediction, truth, dark).amplitude.tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["probe-informed", "paper"])
def test_a_few_steps_on_one_batch_lower_its_loss_under_bfloat16(kind, probe):
    shape = (32, 32)
    torch.manual_seed(1)
    config = TaskConfig(NetworkConfig(kind, SadgsConfig(500.0), shape, shape, 1.5, width=8, steps=2))
    task = ReconstructionTask(config, probe)
    batch = FrameFactory(probe, shape, 8, 1, SimulationRecipe(object_size=64)).make(0)
    optimizer = Adam(task.network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            loss = task._terms(task(batch.counts), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("tile_px", [32, 16])
def test_the_truth_explains_faint_frames_perfectly_whatever_their_noise(tile_px, probe):
    tile = (tile_px, tile_px)
    network = NetworkConfig("probe-informed", SadgsConfig(500.0), (32, 32), tile, 1.5, width=8)
    task = ReconstructionTask(TaskConfig(network, loss=LossWeights(likelihood=1.0)), probe)
    faint = SimulationRecipe(object_size=64, camera=CameraRecipe(exposure=(0.01, 0.01)))
    batch = FrameFactory(probe, tile, 8, 1, faint).make(0)
    told = Prediction(batch.amplitude, batch.cos, batch.sin, batch.cos, batch.sin)
    assert task._terms(told, batch)["deviance"] < 1e-3
    wrong = told._replace(cos=torch.ones_like(batch.cos), sin=torch.zeros_like(batch.sin))
    assert task._terms(wrong, batch)["deviance"] > 1e-3


def test_a_checkpoint_holds_plain_values_and_the_probe(probe):
    config = TaskConfig(NetworkConfig("probe-informed", SadgsConfig(500.0), (32, 32), (16, 16), 1.5, width=8))
    saved = {}
    ReconstructionTask(config, probe, {"plan": {"seed": 1}}).on_save_checkpoint(saved)
    assert saved["ptycholive"]["plan"] == {"seed": 1}
    assert saved["ptycholive"]["config"]["network"]["width"] == 8
    assert torch.equal(saved["ptycholive"]["probe"], torch.as_tensor(probe))
