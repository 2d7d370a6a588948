from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from model.network import NetworkConfig
from model.probe_informed import ProbeInformedNetwork
from model.sadgs import SadgsConfig
from training.checkpoint import read_checkpoint
from training.task import ReconstructionTask, TaskConfig
from training.train import command
from training.warm_start import take_over

FRAME, TILE = (32, 32), (16, 16)
ONE_MEETING = NetworkConfig(
    kind="probe-informed",
    sadgs=SadgsConfig(200.0, 99.9),
    frame_shape=FRAME,
    tile_shape=TILE,
    width=8,
    steps=1,
    exposure="absolute",
)


@pytest.fixture
def frames():
    return torch.poisson(torch.rand(3, 1, *FRAME, generator=torch.Generator().manual_seed(0)) * 50)


def task(config, probe, seed):
    torch.manual_seed(seed)
    return ReconstructionTask(TaskConfig(config), probe)


def says(of_task, frames):
    with torch.inference_mode():
        return torch.cat(of_task(frames)[:3])


def test_a_network_of_the_same_shape_says_the_same(probe, frames):
    old, new = task(ONE_MEETING, probe, 1), task(ONE_MEETING, probe, 2)
    assert not torch.allclose(says(old, frames), says(new, frames))
    take_over(new, old.state_dict())
    torch.testing.assert_close(says(new, frames), says(old, frames))


@pytest.mark.parametrize("meetings", [3, 4])
def test_further_meetings_with_the_measurement_say_nothing_at_first(probe, frames, meetings):
    two = replace(ONE_MEETING, steps=2)
    old, new = task(two, probe, 1), task(replace(two, steps=meetings), probe, 2)
    take_over(new, old.state_dict())
    torch.testing.assert_close(says(new, frames), says(old, frames))


def test_a_further_meeting_listens_as_the_last_one_did(probe):
    old = task(replace(ONE_MEETING, steps=2), probe, 1)
    new = task(replace(ONE_MEETING, steps=3), probe, 2)
    take_over(new, old.state_dict())
    assert isinstance(new.network, ProbeInformedNetwork)
    first, second = (meeting.stem.weight for meeting in new.network.later)
    assert torch.equal(first, second)


def test_the_exposure_and_the_spread_begin_anew_beside_what_was_learned(probe):
    old = task(ONE_MEETING, probe, 1)
    new = task(replace(ONE_MEETING, exposure="kept-out", spread=True), probe, 2)
    sure = new.network.first.sure.weight.clone()
    take_over(new, old.state_dict())
    stem = new.network.first.stem.weight
    assert torch.equal(stem[:, :-1], old.network.first.stem.weight)
    assert not stem[:, -1].any()
    assert torch.equal(new.network.first.sure.weight, sure)


@pytest.mark.parametrize("change", [{"width": 16}, {"kind": "paper", "tile_shape": FRAME}])
def test_weights_of_another_network_are_refused(probe, change):
    old = task(ONE_MEETING, probe, 1)
    new = task(replace(ONE_MEETING, **change), probe, 2)
    with pytest.raises(ValueError, match="weights to start from"):
        take_over(new, old.state_dict())


def test_the_command_goes_on_from_a_network_of_fewer_meetings_and_keeps_its_lineage(scan, tmp_path):
    few = ("--tile", 16, "--width", 8, "--batch", 2, "--samples", 4, "--validations", 1, "--object-size", 64)

    def train(*words):
        words = ("--probe", scan, *few, "--devices", 1, *words)
        done = CliRunner().invoke(command, [str(word) for word in words])
        assert done.exit_code == 0, done.output

    train("--steps", 1, "--out", tmp_path / "one")
    train("--steps", 2, "--from", tmp_path / "one" / "best.ckpt", "--out", tmp_path / "two")
    start = read_checkpoint(tmp_path / "two" / "best.ckpt").record["start"]
    assert start["checkpoint"] == str(tmp_path / "one" / "best.ckpt")
    assert "--steps 1" in start["command"]
