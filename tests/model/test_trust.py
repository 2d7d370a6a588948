"""How far predictions are believed."""

import numpy as np
import pytest

from model.bundle import TrustDescription
from model.trust import expected_error_rad, tile_confidence

TRUST = TrustDescription(
    residual=(0.1, 0.2), error_rad=((0.05, 0.1), (0.1, 0.2), (0.2, 0.8)), frame_counts=(1e4, 2e4)
)
WEIGHT = np.array([[0, 1, 2], [1, 4, 0]], np.float32)


def sigma_rad(confidence):
    """Undo exp(−σ²/2)."""
    return np.sqrt(-2 * np.log(confidence))


@pytest.mark.parametrize(
    ("residual", "error_rad"),
    [(0.0, 0.1), (0.05, 0.1), (0.075, 0.15), (0.15, 0.5), (0.2, 0.8), (0.3, 1.4), (np.nan, np.inf)],
)
def test_the_error_to_expect_rises_with_the_residual_and_goes_on_rising(residual, error_rad):
    assert expected_error_rad(np.array([residual]), TRUST)[0] == pytest.approx(error_rad)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.5])
def test_confidence_is_the_mean_cosine_of_normal_errors(sigma, rng):
    errors_rad = rng.normal(0, sigma, 200_000)
    (found,) = tile_confidence(np.full((1, 2, 3), sigma, np.float32), None, None, WEIGHT)
    np.testing.assert_allclose(found, np.cos(errors_rad).mean(), atol=5e-3)


def test_the_spread_of_a_frame_is_scaled_to_the_error_expected_of_it(rng):
    spread_rad = rng.uniform(0.1, 0.5, (2, 2, 3)).astype(np.float32)
    found = sigma_rad(tile_confidence(spread_rad, np.array([0.1, 0.15], np.float32), TRUST, WEIGHT))
    rms_rad = np.sqrt((found**2 * WEIGHT).sum(axis=(1, 2)) / WEIGHT.sum())
    np.testing.assert_allclose(rms_rad, [0.2, 0.5], rtol=1e-3)
    ratio = found / spread_rad
    np.testing.assert_allclose(ratio, ratio[:, :1, :1].repeat(2, 1).repeat(3, 2), rtol=1e-3)


def test_without_a_spread_all_pixels_of_a_frame_are_believed_alike():
    found = tile_confidence(None, np.array([0.05, 0.2], np.float32), TRUST, WEIGHT)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        sigma_rad(found), np.array([0.1, 0.8])[:, None, None] + np.zeros((2, 2, 3)), 1e-4
    )


@pytest.mark.parametrize(
    ("residual", "trust"), [(None, TRUST), (np.array([0.2], np.float32), None), (None, None)]
)
def test_without_calibrated_residuals_the_spread_speaks_alone(residual, trust):
    spread_rad = np.array([[[0.1, 0.2, 0.3], [0.4, 0.5, 3.0]]], np.float32)
    found = tile_confidence(spread_rad, residual, trust, WEIGHT)
    np.testing.assert_allclose(found, np.exp(-(spread_rad**2) / 2), rtol=1e-5)


@pytest.mark.parametrize("residual", [None, np.array([0.1], np.float32)])
def test_where_nothing_is_known_there_is_no_confidence_to_tell(residual):
    assert tile_confidence(None, residual, None, WEIGHT) is None


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_not_believed(broken):
    spread_rad = np.full((2, 2, 3), 0.3, np.float32)
    by_residual = tile_confidence(spread_rad, np.array([broken, 0.1], np.float32), TRUST, WEIGHT)
    assert (by_residual[0] == 0).all()
    assert (by_residual[1] > 0.9).all()
    spread_rad[0, 1, 1] = broken
    alone = tile_confidence(spread_rad, None, None, WEIGHT)
    assert np.argwhere(alone == 0).tolist() == [[0, 1, 1]]


def test_a_network_that_is_sure_everywhere_does_not_talk_the_residual_away():
    found = tile_confidence(np.zeros((1, 2, 3), np.float32), np.array([0.2], np.float32), TRUST, WEIGHT)
    np.testing.assert_allclose(sigma_rad(found), 0.8, rtol=1e-4)
