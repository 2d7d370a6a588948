"""`evaluate` on a part of a scan, and against time: a network on the frames of a turned raster."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from model.scans import open_scan
from training.datasets.part import restricted
from training.datasets.splits import layout_of_scan, split_layout
from training.evaluate import FIGURES, REPORT, command
from training.judging.predictor import Predictor
from training.plan import TrainingPlan, configure
from training.reporting.findings import judge_scan
from training.simulation.factory import SimulationRecipe
from training.task import ReconstructionTask


@pytest.fixture(scope="module")
def test_part(turned_scan):
    """Numbers of the frames that judge, and what the reference says of them."""
    with open_scan(turned_scan) as scan:
        frames = split_layout(layout_of_scan(scan), "disjoint").test
        return frames, restricted(scan.reference(), frames)


@pytest.fixture(scope="module")
def checkpoint(turned_scan, probe, tmp_path_factory):
    """A network that has learned nothing yet, as `train` keeps it."""
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    plan = TrainingPlan(turned_scan, tile_px=16, width=8, batch=16, recipe=SimulationRecipe(object_size=64))
    task = ReconstructionTask(configure(plan, probe), probe, {"plan": plan.as_record()})
    saved = {"state_dict": task.state_dict(), "global_step": 10}
    task.on_save_checkpoint(saved)
    torch.save(saved, path)
    return path


def judge(turned_scan, test_part, predict, **more):
    frames, part = test_part
    model = Predictor("oracle", predict, part.probe, (32, 32), (16, 16), None, {}, {}, ())
    with open_scan(turned_scan) as scan:
        return judge_scan(scan, model, frames=frames, **more)


def paints_nothing(counts):
    return np.ones((len(counts), 16, 16), np.float32), np.zeros((len(counts), 16, 16), np.float32)


def knows_all(test_part):
    """A network that paints its n-th frame with the n-th patch of the reference."""
    _, part = test_part
    corners = np.rint(part.positions_px).astype(int) + 8
    tiles = np.stack([part.object[y : y + 16, x : x + 16] for y, x in corners])
    calls = iter([0, *range(0, len(tiles), 32)])  # the first is a trial run

    def predict(counts):
        first = next(calls)
        some = tiles[first : first + len(counts)]
        return np.abs(some), np.angle(some)

    return predict


def test_only_the_part_s_frames_and_pixels_are_judged(turned_scan, test_part):
    found = judge(turned_scan, test_part, knows_all(test_part))
    frames, part = test_part
    assert len(found.field.counts) == len(frames)
    assert found.where.shape == part.object.shape
    assert found.rivals[0].likeness.phase_correlation > 0.999
    assert found.evaluation.tiles.circular_rms_rad.count == len(frames)


def test_the_mosaic_is_laid_beside_each_reconstruction_in_the_file(turned_scan, test_part):
    beside = judge(turned_scan, test_part, knows_all(test_part)).beside
    ours, theirs = beside["the network's mosaic"], beside["object, the reference"]
    assert theirs["object"].likeness.phase_correlation == pytest.approx(1)
    for name in ("object", "object_noisy"):
        between = ours[name].likeness.phase_correlation, theirs[name].likeness.phase_correlation
        assert between[0] == pytest.approx(between[1], abs=0.01)
    assert 0.5 < ours["object_noisy"].likeness.phase_correlation < 0.95


def test_engines_run_on_the_part_alone_and_against_time(turned_scan, test_part):
    found = judge(turned_scan, test_part, paints_nothing, against_time_s=0.2)
    assert found.race[0].name == "network"
    assert found.race[-1].standings[-1].residual < found.race[0].standings[0].residual
    assert judge(turned_scan, test_part, paints_nothing).race == ()


def test_the_command_names_the_part_and_tells_the_race(turned_scan, checkpoint, tmp_path):
    words = [checkpoint, turned_scan, "--part", "test", "--every", 2, "--against-time", 0.1]
    done = CliRunner().invoke(command, [*map(str, words), "--out", str(tmp_path / "e")])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "e" / FIGURES).read_text())
    (scan,) = told["scans"]
    assert scan["name"] == "turned.cxi, test part of its split 'disjoint', one frame of 2"
    assert scan["frames"] == 20
    assert {way["name"] for way in scan["against_time"]} >= {"network", "ePIE (pty-chi)"}
    assert set(scan["beside"]["the network's mosaic"]) == {"object", "object_noisy"}
    assert told["command"].endswith("--every 2 --part test --split disjoint --against-time 0.1")
    page = (tmp_path / "e" / REPORT).read_text()
    for words in (
        "Quality against time",
        "Beside each reconstruction",
        "Phase correlation with object_noisy",
    ):
        assert words in page
