import shlex

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from training.checkpoint import load_task, read_checkpoint
from training.exporting import command as export
from training.judging.families import Instrument, family_figures
from training.plan import TrainingPlan, configure
from training.record import plan_of
from training.run import differences, gather
from training.simulation.camera import CameraRecipe
from training.simulation.factory import SimulationRecipe
from training.task import ReconstructionTask
from training.train import command as train

RECIPE = SimulationRecipe(object_size=64, tiles_per_object=4, pool_objects=4)
SMALL = {"tile_px": 16, "width": 8, "batch": 4, "samples": 8, "recipe": RECIPE}


def run(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words])


def plan(scan, **changes):
    return TrainingPlan(scan, **SMALL | changes)


@pytest.fixture(scope="module")
def trained(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("ptychonn")
    small = shlex.split("--batch 4 --samples 8 --validations 1 --object-size 64 --devices 1")
    return out, run(train, "--probe", scan, "--method", "ptychonn", "--out", out, *small)


def test_a_published_method_learns_from_an_instruments_frames(trained, scan):
    out, done = trained
    assert done.exit_code == 0, done.output
    checkpoint = read_checkpoint(out / "best.ckpt")
    assert plan_of(checkpoint).method == "ptychonn"
    assert checkpoint.config.method == "ptychonn"
    assert load_task(checkpoint).network(torch.zeros(1, 1, 32, 32)).phase_rad.shape == (1, 1, 32, 32)


def test_a_published_method_is_not_exported(trained, tmp_path):
    told = run(export, trained[0] / "best.ckpt", "--out", tmp_path / "bundle", "--name", "ptychonn")
    assert told.exit_code == 2
    assert "only networks trained without --method" in told.output


def test_a_method_of_whole_frames_is_judged_where_the_light_is(trained, probe):
    task = load_task(read_checkpoint(trained[0] / "best.ckpt"))
    plan = plan_of(read_checkpoint(trained[0] / "best.ckpt"))
    whole, middle = (
        family_figures(task, plan, "bars", 4, Instrument(probe, (edge, edge))).phase_rms_rad.mean
        for edge in (32, 16)
    )
    assert whole == family_figures(task, plan, "bars", 4).phase_rms_rad.mean
    assert whole != middle


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--probe {scan} --method ptychonn --steps 3", "--steps goes with networks without --method only"),
        ("--probe {scan} --method ptynet-physics", "no method 'ptynet-physics' for simulated frames"),
        ("--self-supervised {scan} --method ptychonn", "--method goes with --probe or --data only"),
    ],
)
def test_what_no_method_can_do_is_told_in_one_line(words, reason, scan, tmp_path):
    told = run(train, *words.format(scan=scan).split(), "--out", tmp_path)
    assert told.exit_code == 2
    assert reason in told.output


def test_the_network_may_be_told_of_fewer_modes_than_make_the_frames(scan, probe):
    material = gather(plan(scan, modes=1), workers=0)
    assert material.probe.shape == (1, 32, 32)
    np.testing.assert_array_equal(material.frames.probe, probe)
    assert ReconstructionTask(material.config, material.probe).network.modes == 1


def test_one_gain_gives_one_view_of_the_counts(scan, probe):
    config = configure(plan(scan, gain_exponents=(0.001,)), probe)
    assert len(config.network.sadgs.gains) == 1


def test_absolute_counts_leave_room_for_the_strongest_exposure(scan, probe):
    def range_at(exposure, **changes):
        recipe = SimulationRecipe(camera=CameraRecipe(exposure=exposure), object_size=64)
        return configure(plan(scan, recipe=recipe, **changes), probe).network.amplitude_range

    assert range_at((0.25, 4.0), kind="paper") == 2 * range_at((1.0, 1.0), kind="paper") == 3.0
    assert range_at((0.25, 4.0)) == range_at((1.0, 1.0)) == 2.5


def test_a_published_schedule_is_stretched_to_the_run(scan, probe):
    asked = {"samples": 400, "validations": 1, "learning_rate": 1e-3, "schedule": "published"}
    paper = configure(plan(scan, kind="paper", **asked), probe).schedule
    assert (paper.kind, paper.low, paper.high) == ("cyclic", pytest.approx(1e-4), 1e-3)
    assert paper.half_cycle_steps == 24  # six of 25 epochs, of 100 steps
    assert configure(plan(scan, method="ptychonn", **asked), probe).schedule.half_cycle_steps == 10
    assert configure(plan(scan, method="dpi", **asked), probe).schedule.kind == "constant"


def test_a_run_begun_before_methods_could_be_named_goes_on(scan):
    asked = plan(scan).as_record()
    later = ("method", "gain_exponents", "modes", "schedule")
    begun = {key: value for key, value in asked.items() if key not in later}
    assert differences(begun, asked) == []
    assert differences(begun, plan(scan, method="dpi").as_record()) == ["method"]


def test_a_plan_survives_its_record(scan):
    told = plan(scan, method="ppn", gain_exponents=(0.001, 2.0, 4.0), modes=2)
    assert TrainingPlan.from_record(told.as_record()) == told
