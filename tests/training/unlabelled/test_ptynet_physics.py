import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.baselines.ptynet import physics_loss
from training.checkpoint import load_task, read_checkpoint
from training.datasets.splits import split_set
from training.judging.predictor import open_model
from training.method import ScalarPrediction
from training.run import fit
from training.train import command
from training.unlabelled.ptynet_physics import PhysicsPlan, in_units, prepare_physics

DATA = ("--data", "usaf-tiny", "--devices", "1")
ONE_DEVICE = {"devices": 1}


def train(*words):
    return CliRunner().invoke(command, [*DATA, *(str(word) for word in words)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The first stage."""
    out = tmp_path_factory.mktemp("ptynet")
    done = train("--method", "ptynet", "--epochs", 1, "--out", out)
    assert done.exit_code == 0, done.output
    return out / "best.ckpt"


@pytest.fixture(scope="module")
def tuned(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("physics")
    done = train("--method", "ptynet-physics", "--from", trained, "--epochs", 3, "--out", out)
    assert done.exit_code == 0, done.output
    return out


def log(out, name):
    return [event.value for event in EventAccumulator(str(out)).Reload().Scalars(name)]


def test_the_second_stage_brings_held_out_patterns_nearer(tuned):
    misfit = log(tuned, "val/loss")
    assert len(misfit) == 3
    assert misfit[-1] < misfit[0]


def test_it_takes_sixteen_frames_a_step_for_ten_epochs_as_published(tuned):
    plan = PhysicsPlan("usaf-tiny")
    steps_an_epoch = -(-len(split_set(plan.open_data(), "rows").train) // 16)
    assert plan.total_epochs == 10
    assert read_checkpoint(tuned / "last.ckpt").steps == 3 * steps_an_epoch


def test_the_second_stage_begins_with_the_weights_of_the_first(trained, tmp_path):
    plan = PhysicsPlan("usaf-tiny", start=trained)
    task = prepare_physics(plan, tmp_path, trainer_options=ONE_DEVICE).task
    start = read_checkpoint(trained).weights
    assert all(torch.equal(value, start[name]) for name, value in task.state_dict().items())


@pytest.mark.parametrize(("epochs", "after"), [(10, 2), (20, 4), (2, 1)])
def test_the_rate_is_halved_after_every_second_of_ten_epochs(trained, tmp_path, epochs, after):
    plan = PhysicsPlan("usaf-tiny", start=trained, epochs=epochs)
    chosen = prepare_physics(plan, tmp_path, trainer_options=ONE_DEVICE).task.configure_optimizers()
    rates = []
    for _ in range(2 * after + 1):
        rates.append(chosen["optimizer"].param_groups[0]["lr"])
        chosen["optimizer"].step()
        chosen["lr_scheduler"].step()
    assert rates[after - 1 : after + 1] == pytest.approx([1e-4, 5e-5])
    assert rates[-1] == pytest.approx(2.5e-5)


def test_the_labels_of_the_set_teach_nothing(trained, tmp_path):
    weights = []
    for spoilt in (False, True):
        plan = PhysicsPlan("usaf-tiny", start=trained, epochs=1)
        run = prepare_physics(plan, tmp_path / str(spoilt), trainer_options=ONE_DEVICE)
        if spoilt:
            run.frames.data.amplitude[:] = 0
            run.frames.data.phase_rad[:] = 0
        fit(run)
        weights.append(run.task.state_dict())
    assert all(torch.equal(value, weights[0][name]) for name, value in weights[1].items())


def test_the_true_labels_in_their_units_explain_the_photons():
    data, some = PhysicsPlan("usaf-tiny").open_data(), slice(120, 136)  # at its edge the chart is flat
    labels = ScalarPrediction(*(torch.as_tensor(x[some])[:, None] for x in (data.amplitude, data.phase_rad)))
    counts, modes = torch.as_tensor(data.counts[some])[:, None], torch.as_tensor(data.probe)
    assert physics_loss(in_units(labels, data.units), counts, modes) < 1e-3 * counts.mean()
    assert physics_loss(labels, counts, modes) > 0.1 * counts.mean()


def test_the_checkpoint_is_ptynets_and_is_judged_as_such(tuned):
    checkpoint = read_checkpoint(tuned / "best.ckpt")
    assert checkpoint.config.method == "ptynet"
    assert checkpoint.record["plan"]["method"] == "ptynet-physics"
    assert load_task(checkpoint).config == checkpoint.config
    assert open_model(str(tuned / "best.ckpt")).predict(np.ones((1, 1, 32, 32), np.float32))[1].shape == (
        1,
        32,
        32,
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--method ptynet-physics", "give --from"),
        ("--method ptynet-physics --from nowhere.ckpt", "not a checkpoint"),
        ("--method ptynet --from {start}", "--from goes with --probe, --self-supervised or"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_line(trained, tmp_path, words, reason):
    done = train(*words.format(start=trained).split(), "--out", tmp_path)
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]


def test_only_ptynet_is_tuned_by_ptynets_recipe(tmp_path):
    assert train("--method", "ptychonn", "--epochs", 1, "--out", tmp_path / "other").exit_code == 0
    words = ("--from", tmp_path / "other" / "best.ckpt", "--out", tmp_path / "tuned")
    done = train("--method", "ptynet-physics", *words)
    assert done.exit_code == 2
    assert "was not trained with --method ptynet" in done.output
