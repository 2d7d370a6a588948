import numpy as np
import pytest
import torch

from model.sadgs import Sadgs, SadgsConfig, percentile_counts


def test_the_papers_numbers_give_the_papers_gains():
    low, high = SadgsConfig(percentile_counts=984).gains
    assert low == pytest.approx(0.85 * 4095 / 984)
    assert low == pytest.approx(3.5373, abs=1e-4)
    assert high / low == pytest.approx(2**3.999)


def test_the_percentile_lands_on_the_headroom_of_the_low_gain():
    scaled = Sadgs(SadgsConfig(percentile_counts=984))(torch.full((1, 1, 1, 1), 984.0))
    assert scaled[0, 0].item() == pytest.approx(0.85 * 4095, rel=1e-6)
    assert scaled[0, 1].item() == 4095.0


def test_views_are_clipped_at_the_clip_level_and_not_at_the_detectors_saturation():
    counts = torch.tensor([0.0, 1.0, 1e3, 65534.0, 2.0**32]).reshape(1, 1, 1, 5)
    low, high = Sadgs(SadgsConfig(percentile_counts=984))(counts)[0]
    assert low.max() == 4095.0
    assert high.max() == 4095.0
    assert low[0, 1] == pytest.approx(3.5373, abs=1e-4)
    assert low[0, 0] == high[0, 0] == 0


def test_three_gains_give_three_views():
    config = SadgsConfig(percentile_counts=100, gain_exponents=(0.001, 2.0, 4.0))
    assert Sadgs(config)(torch.ones(2, 1, 4, 4)).shape == (2, 3, 4, 4)


def test_the_gains_travel_with_the_weights():
    assert Sadgs(SadgsConfig(percentile_counts=984)).state_dict()["gains"].shape == (1, 2, 1, 1)


@pytest.mark.parametrize("percentile", [50, 99.5, 100])
def test_the_percentile_is_the_counts_of_that_rank(percentile):
    counts = torch.arange(1, 1001, dtype=torch.float32)[torch.randperm(1000)].reshape(10, 10, 10)
    expected = np.percentile(np.arange(1, 1001), percentile, method="inverted_cdf")
    assert percentile_counts(counts, percentile) == expected


def test_gaps_and_hot_pixels_do_not_count_for_the_percentile():
    counts = torch.full((4, 8, 8), 10.0)
    counts[:, 0] = 2.0**32 - 1
    gap = torch.zeros(1, 8, 8, dtype=torch.bool)
    gap[:, 0] = True
    assert percentile_counts(counts, 99.5, gap) == 10
    assert percentile_counts(counts, 99.5) > 10


def test_a_detector_that_is_all_masked_has_no_percentile():
    with pytest.raises(ValueError, match="mask"):
        percentile_counts(torch.ones(1, 8, 8), 99.5, torch.ones(1, 8, 8, dtype=torch.bool))


@pytest.mark.parametrize("dark", [0, -1, float("nan")])
def test_a_dark_training_set_is_refused(dark):
    with pytest.raises(ValueError, match="beam"):
        SadgsConfig(percentile_counts=dark)
