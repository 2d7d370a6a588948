import json
from dataclasses import replace

import numpy as np
import pytest

from training.ablate import GRIDS, run_study
from training.datasets.sets import open_set
from training.datasets.splits import split_set
from training.judging.evaluation import judge_painted
from training.judging.object_tiles import known_physics, paint_physically
from training.studies.chart import FROM_KNOWN, FROM_RANDOM, training_part


@pytest.fixture(scope="module")
def chart():
    return open_set("usaf-tiny")


def true_tiles(chart, frames, turn_rad=None):
    """What a network would say that knows the chart: physical amplitude and phase, each tile in its gauge."""
    truth = chart.units.transmission(chart.amplitude[frames], chart.phase_rad[frames])
    if turn_rad is not None:
        truth = truth * np.exp(1j * turn_rad).astype(np.complex64)[:, None, None]

    def predict(counts):
        start = predict.done
        predict.done = min(predict.done + len(counts), len(frames)) if predict.warm else 0
        predict.warm = True
        tiles = truth[start : start + len(counts)]
        return np.abs(tiles), np.angle(tiles)

    predict.done, predict.warm = 0, False
    return predict


def test_a_network_that_knows_the_object_makes_the_labels(chart):
    frames = split_set(chart, "disjoint").test
    painted = paint_physically(true_tiles(chart, frames), chart, frames)
    np.testing.assert_allclose(painted.amplitude, chart.amplitude[frames], atol=1e-3)
    np.testing.assert_allclose(painted.phase_rad, chart.phase_rad[frames], atol=1e-3)


def test_the_absolute_phase_of_a_tile_does_not_count(chart):
    frames = split_set(chart, "disjoint").test
    turns = np.random.default_rng(0).uniform(-np.pi, np.pi, len(frames))
    painted = paint_physically(true_tiles(chart, frames, turns), chart, frames)
    found = judge_painted(painted, chart, frames)
    assert found.circle.figures.circular.rms_rad < 1e-2


def test_a_set_without_truth_cannot_be_judged_so(chart):
    with pytest.raises(ValueError, match="with the probe and the truth"):
        known_physics(replace(chart, truth_phase_rad=None))


@pytest.mark.long
def test_simulated_frames_of_the_probe_stand_beside_the_paper_in_one_table(tmp_path):
    study = GRIDS["chart"].quick()
    records = run_study(study, tmp_path, 1, "32-true", {"devices": 1})
    table = study.table(records)
    for method in (FROM_RANDOM, FROM_KNOWN, "paper"):
        assert f"| usaf-tiny-noisy | disjoint | {method} |" in table
    simulated = [record for record in records if record["plan"]["method"] in (FROM_RANDOM, FROM_KNOWN)]
    assert [record["frames"]["train"] for record in simulated] == 4 * [64]
    json.dumps(records)


def test_the_known_object_shares_no_pixel_with_the_frames_that_judge(chart):
    split = split_set(chart, "disjoint")
    known, (_, truth) = training_part(chart, "disjoint"), known_physics(chart)
    corners = chart.corners_px[split.train]
    first, last = corners.min(axis=0), corners.max(axis=0) + np.array(chart.tile_shape)
    np.testing.assert_array_equal(known, truth[first[0] : last[0], first[1] : last[1]])
    assert (chart.corners_px[split.test] >= last).any(axis=1).all()
