from dataclasses import replace

import pytest
import torch

from training.checkpoint import load_task, read_checkpoint
from training.plan import TrainingPlan, configure
from training.run import differences, fit, prepare
from training.simulation.factory import SimulationRecipe
from training.task import EMA_DECAY, AveragedWeights

RECIPE = SimulationRecipe(object_size=64, tiles_per_object=4)
KEY = "network.first.head.weight"


def plan(scan, **changes):
    return TrainingPlan(
        scan, tile_px=16, width=8, batch=4, samples=32, validations=4, recipe=RECIPE, **changes
    )


@pytest.fixture(scope="module")
def run(scan, tmp_path_factory):
    """Eight steps, with an average of the weights."""
    out = tmp_path_factory.mktemp("averaged")
    fit(prepare(plan(scan), out))
    return out


def average(decay, path):
    """The average of numbers, one a step, as the callback takes it."""
    model, callback = torch.nn.Linear(1, 1, bias=False), AveragedWeights(decay)
    averaged = torch.optim.swa_utils.AveragedModel(model, **callback._kwargs)
    for value in path:
        with torch.no_grad():
            model.weight.fill_(value)
        averaged.update_parameters(model)
    return averaged.module.weight.item()


def test_the_average_follows_quickly_at_first_and_then_as_slowly_as_its_decay():
    assert average(EMA_DECAY, [5.0]) == 5
    assert average(EMA_DECAY, [5.0, 1.0]) == pytest.approx(5 * 2 / 11 + 9 / 11)
    steps = 2_000
    tail = average(0.99, [0.0] * steps + [1.0])
    assert tail == pytest.approx(0.01, rel=1e-3)


def test_the_average_is_what_is_kept_and_the_weights_that_learn_lie_beside_it(run):
    saved = torch.load(run / "last.ckpt", weights_only=True)
    checkpoint = read_checkpoint(run / "last.ckpt")
    learning = saved["current_model_state"][KEY]
    assert not torch.equal(checkpoint.weights[KEY], learning)
    assert torch.equal(load_task(checkpoint).state_dict()[KEY], checkpoint.weights[KEY])


def test_an_average_changes_nothing_of_what_is_learned(run, scan, tmp_path):
    fit(prepare(plan(scan, ema=False), tmp_path))
    without = read_checkpoint(tmp_path / "last.ckpt").weights[KEY]
    beside = torch.load(run / "last.ckpt", weights_only=True)["current_model_state"][KEY]
    assert torch.equal(without, beside)


def test_the_average_of_weights_that_are_not_learned_is_not_taken(run):
    weights = read_checkpoint(run / "last.ckpt").weights
    beside = torch.load(run / "last.ckpt", weights_only=True)["current_model_state"]
    assert torch.equal(weights["network.light.window_modes"], beside["network.light.window_modes"])


def test_a_record_of_before_means_what_runs_then_did(scan):
    record = plan(scan).as_record()
    for name in ("keep_exposure_out", "likelihood", "spread", "ema"):
        del record[name]
    then = TrainingPlan.from_record(record)
    assert (then.keep_exposure_out, then.likelihood, then.spread, then.ema) == (False, 0.0, False, False)
    assert differences(record, then.as_record()) == []
    assert "spread" in differences(record, replace(then, spread=True).as_record())


def test_the_paper_s_network_is_configured_without_what_it_does_not_have(scan, probe):
    config = configure(plan(scan, kind="paper"), probe)
    assert (config.network.exposure, config.network.spread) == ("absolute", False)
    assert configure(plan(scan), probe).network.spread
