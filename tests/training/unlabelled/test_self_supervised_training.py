import json

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.optics import centre_crop, intensity, tile_residual
from training.checkpoint import load_task, read_checkpoint
from training.exporting import checked_reference, parity_frames
from training.judging.predictor import open_model
from training.record import plan_of
from training.run import fit
from training.simulation.factory import SimulationRecipe
from training.train import command
from training.unlabelled.measured import hold_out, read_measured
from training.unlabelled.plan import SelfSupervisedPlan
from training.unlabelled.run import prepare_self_supervised, self_supervised_plan
from training.unlabelled.task import gauge_drift, phase_rms_rad

PIXEL_M = 2e-8
SHAPE = {"tile_px": 16, "width": 8, "recipe": SimulationRecipe(object_size=64)}
SHORT = {"batch": 16, "samples": 96, "validations": 2}
ONE_DEVICE = {"devices": 1}


def plan(measured, **changes):
    return self_supervised_plan({"probe": measured.path, **SHAPE, **SHORT, **changes})


def run(a_plan, out):
    prepared = prepare_self_supervised(a_plan, out, trainer_options=ONE_DEVICE)
    fit(prepared)
    return prepared


def scalars(out, name):
    return [event.value for event in EventAccumulator(str(out)).Reload().Scalars(name)]


def train(*words):
    return CliRunner().invoke(command, [str(word) for word in words])


@pytest.fixture(scope="module")
def learned(measured, tmp_path_factory):
    out = tmp_path_factory.mktemp("learned")
    run(plan(measured, samples=320, validations=4), out)
    return out


def test_counts_alone_teach_what_the_held_out_frames_look_like(learned):
    deviance = scalars(learned, "val/loss")
    assert deviance[-1] < 0.85 * deviance[0]
    assert scalars(learned, "val/forward_residual")[-1] < scalars(learned, "val/forward_residual")[0]


def test_the_reference_where_there_is_one_is_only_looked_at(learned, measured, tmp_path):
    assert len(scalars(learned, "val/phase_rms_rad")) == 4
    blank = tmp_path / "blank.cxi"
    blank.write_bytes(measured.path.read_bytes())
    with h5py.File(blank, "r+") as file:
        file["/entry_1/reference_1/object"][...] = 1
    weights = []
    for path in (blank, measured.path):
        run(self_supervised_plan({"probe": path, **SHAPE, **SHORT}), tmp_path / path.stem)
        weights.append(read_checkpoint(tmp_path / path.stem / "last.ckpt").weights)
    assert all(torch.equal(value, weights[0][name]) for name, value in weights[1].items())


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(learned, measured, tmp_path):
    stopped = prepare_self_supervised(
        plan(measured, samples=320, validations=4), tmp_path, trainer_options=ONE_DEVICE
    )
    stopped.trainer.fit_loop.epoch_loop.max_steps = 10
    fit(stopped)
    assert read_checkpoint(tmp_path / "last.ckpt").steps == 10
    run(plan(measured, samples=320, validations=4), tmp_path)
    whole, resumed = (read_checkpoint(out / "last.ckpt") for out in (learned, tmp_path))
    assert resumed.steps == whole.steps == 20
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_the_checkpoint_is_of_the_common_form_and_says_that_no_label_was_used(learned, measured):
    checkpoint = read_checkpoint(learned / "best.ckpt")
    load_task(checkpoint)
    assert plan_of(checkpoint).probe == measured.path
    account = checkpoint.record["self_supervised"]
    assert account["labels"] == "none"
    assert account["scan"] == "raster.cxi"
    assert checkpoint.record["start"] is None
    assert account["frames"] > account["held_out"] > 0


def test_the_checkpoint_can_be_exported_for_the_instrument_of_the_scan(learned, measured):
    checkpoint = read_checkpoint(learned / "best.ckpt")
    assert checked_reference(checkpoint, plan_of(checkpoint).probe).object_pixel_m == PIXEL_M
    frames = parity_frames(load_task(checkpoint), plan_of(checkpoint))
    assert frames.shape[-2:] == measured.scan.counts.shape[-2:]


def test_the_model_that_is_evaluated_explains_held_out_frames_as_the_log_says(measured, tmp_path):
    run(plan(measured, samples=64, validations=2, keep_exposure_out=False), tmp_path)
    model = open_model(str(tmp_path / "best.ckpt"))
    held_out = hold_out(measured.scan.centres_px, model.tile_shape).held_out
    amplitude, phase_rad = model.predict(measured.scan.frames(held_out, 65535.0).numpy())
    residuals = [
        tile_residual(model.probe, tile, counts, measured.scan.mask)
        for tile, counts in zip(
            amplitude * np.exp(1j * phase_rad), measured.scan.counts[held_out], strict=True
        )
    ]
    assert np.mean(residuals) == pytest.approx(min(scalars(tmp_path, "val/forward_residual")), rel=1e-3)


@pytest.fixture(scope="module")
def simulated(measured, tmp_path_factory):
    """A network that has seen a few simulated frames."""
    out = tmp_path_factory.mktemp("simulated")
    words = ["--probe", measured.path, "--tile", 16, "--width", 8, "--batch", 4, "--samples", 8]
    done = train(*words, "--object-size", 64, "--validations", 1, "--devices", 1, "--out", out)
    assert done.exit_code == 0, done.output
    return out / "best.ckpt"


def test_tuning_begins_with_the_weights_and_the_scaling_of_the_checkpoint(measured, simulated, tmp_path):
    tuning = self_supervised_plan({"probe": measured.path, "start": simulated, **SHORT})
    assert (tuning.width, tuning.tile_px, tuning.learning_rate) == (8, 16, 1e-4)
    task = prepare_self_supervised(tuning, tmp_path, trainer_options=ONE_DEVICE).task
    start = read_checkpoint(simulated)
    assert task.config.network == start.config.network
    assert all(torch.equal(task.state_dict()[name], value) for name, value in start.weights.items())


def test_tuning_takes_the_probe_of_the_scan_and_not_that_of_the_checkpoint(measured, simulated, tmp_path):
    moved = tmp_path / "moved.cxi"
    moved.write_bytes(measured.path.read_bytes())
    with h5py.File(moved, "r+") as file:
        probe = file["/entry_1/reference_1/probe"]
        probe[...] = np.roll(probe[...], 1, axis=-1)
    tuning = self_supervised_plan({"probe": moved, "start": simulated, **SHORT})
    task = prepare_self_supervised(tuning, tmp_path / "run", trainer_options=ONE_DEVICE).task
    light = centre_crop(intensity(task.known_probe()), (16, 16))
    np.testing.assert_allclose(task.network.light.maps[0, -1], light / light.max(), rtol=1e-5)
    head = "network.first.head.weight"
    assert torch.equal(task.state_dict()[head], read_checkpoint(simulated).weights[head])


def test_the_test_part_of_a_split_takes_no_part_and_the_checkpoint_says_so(turned_scan, tmp_path):
    settings = {"probe": turned_scan, **SHAPE, **SHORT, "split": "disjoint"}
    prepared = prepare_self_supervised(self_supervised_plan(settings), tmp_path, trainer_options=ONE_DEVICE)
    scan = read_measured(turned_scan)
    used = np.concatenate(prepared.frames.parts)
    assert scan.layout.raster[used, 1].max() < scan.layout.raster[:, 1].max() - 8
    told = prepared.task.record["self_supervised"]
    assert told["split"] == "disjoint"
    assert "none of the test part of its split 'disjoint'" in told["data"]


def test_the_command_learns_without_labels_and_tunes(measured, simulated, tmp_path):
    few = ("--samples", 16, "--batch", 8, "--validations", 1, "--devices", 1)
    words = ("--self-supervised", measured.path, "--from", simulated, "--out", tmp_path / "tuned", *few)
    done = train(*words)
    assert done.exit_code == 0, done.output
    tuned = read_checkpoint(tmp_path / "tuned" / "best.ckpt")
    assert tuned.record["start"]["checkpoint"] == str(simulated)
    assert tuned.config.schedule.high == 1e-4
    assert "--from" in (tmp_path / "tuned" / "command.txt").read_text()
    assert "other settings (seed)" in train(*words, "--seed", 9).output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--self-supervised {scan} --probe {scan}", "or --self-supervised"),
        ("--probe {scan} --tile 16 --from x.ckpt", "not a checkpoint"),
        ("--data usaf-tiny --from x.ckpt", "--from goes with --probe, --self-supervised or"),
        ("--self-supervised {scan} --from x.ckpt --width 8", "--width goes with a new network only"),
        ("--self-supervised {scan} --epochs 3", "--epochs goes with --data only"),
        ("--self-supervised {scan} --spread", "--spread goes with --probe only"),
        ("--self-supervised {scan} --from x.ckpt", "not a checkpoint"),
        ("--self-supervised nowhere.cxi", "no such scan file"),
        ("--self-supervised {scan} --tile 24 --batch 1", "no two neighbours"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_line(measured, tmp_path, words, reason):
    done = train(*words.format(scan=measured.path).split(), "--devices", 1, "--out", tmp_path)
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]


def test_a_network_that_learned_from_labels_is_not_tuned(measured, tmp_path):
    words = ("--data", measured.path, "--method", "ptynet", "--epochs", 1, "--devices", 1, "--out", tmp_path)
    assert train(*words).exit_code == 0
    done = train(
        "--self-supervised", measured.path, "--from", tmp_path / "best.ckpt", "--out", tmp_path / "t"
    )
    assert done.exit_code == 2
    assert "was not trained with --probe" in done.output


def test_a_network_of_another_number_of_modes_is_refused(measured, simulated, tmp_path):
    other = tmp_path / "one-mode.cxi"
    other.write_bytes(measured.path.read_bytes())
    with h5py.File(other, "r+") as file:
        first = file["/entry_1/reference_1/probe"][:1]
        del file["/entry_1/reference_1/probe"]
        file["/entry_1/reference_1/probe"] = first
    tuning = self_supervised_plan({"probe": other, "start": simulated, **SHORT})
    with pytest.raises(ValueError, match="do not fit"):
        prepare_self_supervised(tuning, tmp_path / "run", trainer_options=ONE_DEVICE)


def test_a_simulated_run_does_not_go_on_without_labels(measured, simulated):
    with pytest.raises(ValueError, match="other settings"):
        prepare_self_supervised(plan(measured), simulated.parent, trainer_options=ONE_DEVICE)


def test_a_plan_without_labels_reads_as_one_of_the_instrument(measured):
    record = plan(measured, start=None).as_record()
    assert SelfSupervisedPlan.from_record(record) == plan(measured)
    json.dumps(record)


def test_the_paper_kind_learns_without_labels_too(measured, tmp_path):
    run(plan(measured, kind="paper", samples=16, validations=1), tmp_path)
    assert read_checkpoint(tmp_path / "best.ckpt").config.network.tile_shape == (32, 32)


def test_the_gauge_is_that_of_simulated_tiles():
    light = torch.rand(1, 1, 8, 8)
    tiles = torch.polar(torch.rand(3, 1, 8, 8) + 0.1, 0.3 * torch.randn(3, 1, 8, 8))
    mean = (tiles * light).sum(dim=(-2, -1), keepdim=True)
    settled = tiles * (mean / mean.abs()).conj()
    torch.testing.assert_close(gauge_drift(settled, light), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(gauge_drift(settled * 1j, light), torch.ones(3))


def test_the_phase_error_forgets_one_turn_and_what_is_not_known():
    light = torch.ones(1, 1, 8, 8)
    truth = torch.polar(torch.ones(2, 1, 8, 8), torch.randn(2, 1, 8, 8))
    truth[:, :, :2] = 0
    assert phase_rms_rad(truth.where(truth != 0, 5) * 1j, truth, light).tolist() == pytest.approx(
        [0, 0], abs=1e-3
    )
