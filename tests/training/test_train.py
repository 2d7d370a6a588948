import shlex

import h5py
import lightning
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.scans import write_scan
from training.checkpoint import CheckpointError, load_task, read_checkpoint
from training.plan import TrainingPlan, configure
from training.run import fit, prepare
from training.simulation.factory import SimulationRecipe
from training.train import command

RECIPE = SimulationRecipe(object_size=64, tiles_per_object=4)
OPTIONS = "--tile 16 --width 8 --batch 4 --samples 16 --validations 2 --object-size 64 --devices 1"


def plan(scan, **changes):
    small = {"tile_px": 16, "width": 8, "batch": 4, "samples": 32, "validations": 4, "recipe": RECIPE}
    return TrainingPlan(scan, **small | changes)


def train(*words, **options):
    return CliRunner().invoke(command, [str(word) for word in words] + shlex.split(OPTIONS), **options)


class PowerCutError(Exception):
    pass


class PowerCut(lightning.Callback):
    """Ends the process's work after a step, as a power cut would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise PowerCutError


@pytest.fixture(scope="module")
def whole_run(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    fit(prepare(plan(scan), out))
    return out


def test_a_run_leaves_its_best_and_its_last_weights(whole_run):
    last = read_checkpoint(whole_run / "last.ckpt")
    assert last.steps == 8
    assert (whole_run / "best.ckpt").is_file()
    assert not load_task(last).eval().training


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(whole_run, scan, tmp_path):
    stopped = prepare(plan(scan), tmp_path)
    stopped.trainer.callbacks.append(PowerCut(5))
    with pytest.raises(PowerCutError):
        fit(stopped)
    assert read_checkpoint(tmp_path / "last.ckpt").steps == 4  # it looked at held-out frames each two steps
    fit(prepare(plan(scan), tmp_path))
    whole, resumed = (read_checkpoint(out / "last.ckpt") for out in (whole_run, tmp_path))
    assert resumed.steps == whole.steps == 8
    assert all(torch.equal(resumed.weights[key], value) for key, value in whole.weights.items())


def test_another_seed_gives_other_weights(whole_run, scan, tmp_path):
    fit(prepare(plan(scan, seed=2), tmp_path))
    key = "network.first.head.weight"
    one, other = (read_checkpoint(out / "last.ckpt").weights[key] for out in (whole_run, tmp_path))
    assert not torch.equal(one, other)


def test_a_finished_run_has_nothing_left_to_do(whole_run, scan):
    run = prepare(plan(scan), whole_run)
    before = read_checkpoint(whole_run / "last.ckpt").weights
    fit(run)
    assert run.trainer.global_step == 8
    after = read_checkpoint(whole_run / "last.ckpt").weights
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "changes", [{"samples": 64}, {"seed": 5}, {"recipe": SimulationRecipe(object_size=80)}]
)
def test_a_run_does_not_go_on_with_other_settings(whole_run, scan, changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        prepare(plan(scan, **changes), whole_run)


def test_a_run_does_not_go_on_with_another_probe(whole_run, scan, tmp_path, probe):
    moved = tmp_path / "other.cxi"
    moved.write_bytes(scan.read_bytes())
    prepare(plan(moved), whole_run)  # the same probe elsewhere is the same probe
    with h5py.File(moved, "r+") as file:
        file["/entry_1/reference_1/probe"][...] = probe[:, ::-1]
    with pytest.raises(ValueError, match="the probe"):
        prepare(plan(moved), whole_run)


def test_a_checkpoint_says_how_it_came_to_be(whole_run, scan):
    record = read_checkpoint(whole_run / "best.ckpt").record
    assert TrainingPlan.from_record(record["plan"]) == plan(scan)
    assert record["environment"]["torch"] == torch.__version__


def test_the_log_shows_loss_and_errors(whole_run):
    log = EventAccumulator(str(whole_run)).Reload()
    steps = [event.step for event in log.Scalars("val/phase_rms_rad")]
    assert len(steps) >= 4
    assert {"val/loss", "val/amplitude_rms"} <= set(log.Tags()["scalars"])


def test_the_papers_network_paints_the_whole_frame(scan, probe):
    config = configure(plan(scan, kind="paper"), probe)
    assert config.network.tile_shape == (32, 32)
    assert config.network.sadgs.percentile == 99.5


@pytest.mark.parametrize(
    ("samples", "validations", "steps", "between"),
    [(32, 4, 8, 2), (180_000, 25, 45_000, 1800), (37, 4, 8, 2), (3, 50, 1, 1)],
)
def test_a_run_ends_on_a_look_at_held_out_frames(scan, samples, validations, steps, between):
    run = plan(scan, samples=samples, validations=validations)
    assert (run.total_steps, run.steps_between_validations) == (steps, between)


@pytest.mark.parametrize("more", [(), ("--kind", "paper"), ("--precision", "bf16-mixed"), ("--workers", "1")])
def test_the_command_trains_and_writes_down_how_it_was_called(scan, tmp_path, more):
    done = train("--probe", scan, "--out", tmp_path / "run", *more)
    assert done.exit_code == 0, done.output
    assert f"best checkpoint: {tmp_path / 'run' / 'best.ckpt'}" in done.output
    words = shlex.split((tmp_path / "run" / "command.txt").read_text())
    assert words[:2] == ["ptycholive", "train"]
    assert words[words.index("--probe") + 1] == str(scan)
    assert set(more) <= set(words)
    assert "--seed" not in words  # it was not given
    steps = read_checkpoint(tmp_path / "run" / "last.ckpt").steps
    assert steps == 4


def refusal(*words):
    done = train(*words)
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if line.startswith("Error:")]
    return line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--tile", 20), "multiples of 8"),
        (("--tile", 64), "larger than the frame"),
        (("--tile", 8), "16"),
        (("--object-size", 8), "smaller than the probe"),
        (("--devices", "many"), "how many"),
        (("--seed", -1), "seed"),
        (("--precision", "9-bit"), "precision"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(scan, tmp_path, words, reason):
    given = [str(word) for word in words]
    done = CliRunner().invoke(
        command, ["--probe", str(scan), "--out", str(tmp_path), *shlex.split(OPTIONS), *given]
    )
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]
    assert not (tmp_path / "command.txt").exists()


def test_a_scan_without_a_probe_is_refused(tmp_path):
    bare = tmp_path / "bare.cxi"
    write_scan(bare, np.zeros((1, 32, 32), np.uint16), np.zeros((1, 2)))
    assert "no reference" in refusal("--probe", bare, "--out", tmp_path)
    assert "no such scan file" in refusal("--probe", tmp_path / "nowhere", "--out", tmp_path)


def test_a_refused_run_leaves_the_record_of_the_one_before(scan, tmp_path):
    train("--probe", scan, "--out", tmp_path)
    before = (tmp_path / "command.txt").read_text()
    assert "other settings" in refusal("--probe", scan, "--out", tmp_path, "--seed", 9)
    assert (tmp_path / "command.txt").read_text() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor an archive"])
def test_what_is_not_a_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    torch.save({"state_dict": {}, "global_step": 1}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="ptycholive"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_pickled_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"ptycholive": print}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "evil.ckpt")
