"""How far predictions are believed."""

import numpy as np
import pytest

from model.bundle import TrustDescription
from model.trust import expected_error_rad, tile_confidence

TRUST = TrustDescription(
    residual=(0.1, 0.2), error_rad=((0.05, 0.1), (0.1, 0.2), (0.2, 0.8)), frame_counts=(1e4, 2e4)
)


@pytest.mark.parametrize(
    ("residual", "error_rad"),
    [(0.0, 0.1), (0.05, 0.1), (0.075, 0.15), (0.15, 0.5), (0.2, 0.8), (0.3, 1.4), (np.nan, np.inf)],
)
def test_the_error_to_expect_rises_with_the_residual_and_goes_on_rising(residual, error_rad):
    assert expected_error_rad(np.array([residual]), TRUST)[0] == pytest.approx(error_rad)


def test_frames_that_are_explained_as_in_calibration_are_all_believed():
    found = tile_confidence(np.array([0.0, 0.1, 0.19, 0.2], np.float32), TRUST)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1, rtol=1e-5)


def test_beyond_calibration_the_confidence_is_the_mean_cosine_of_the_error_on_top(rng):
    (found,) = tile_confidence(np.array([0.25]), TRUST)  # where 1.1 rad are expected, and 0.8 at the worst
    on_top_rad = rng.normal(0, np.sqrt(1.1**2 - 0.8**2), 200_000)
    assert found == pytest.approx(np.cos(on_top_rad).mean(), abs=5e-3)


def test_the_less_a_frame_is_explained_the_less_it_is_believed():
    found = tile_confidence(np.linspace(0.2, 0.8, 20), TRUST)
    assert (np.diff(found) < 0).all()
    assert found[-1] < 1e-4


@pytest.mark.parametrize(("residual", "trust"), [(None, TRUST), (np.array([0.2], np.float32), None)])
def test_where_nothing_is_known_there_is_no_confidence_to_tell(residual, trust):
    assert tile_confidence(residual, trust) is None


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_is_not_believed(broken):
    np.testing.assert_array_equal(tile_confidence(np.array([broken, 0.1]), TRUST), [0, 1])
