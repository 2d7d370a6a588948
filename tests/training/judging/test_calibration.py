import numpy as np
import pytest

from training.judging.calibration import error_curve


def test_a_frame_that_is_explained_worse_is_expected_to_err_more():
    rng = np.random.default_rng(3)
    residual = rng.uniform(0.05, 0.3, 400)
    curve = np.array(error_curve(residual, 0.5 * residual))
    assert len(curve) == 10
    assert (np.diff(curve, axis=0) > 0).all()
    np.testing.assert_allclose(curve[:, 1], 0.5 * curve[:, 0], rtol=0.05)


def test_a_chance_dip_of_the_error_does_not_make_a_worse_frame_look_better():
    residual = np.linspace(0.1, 0.2, 100)
    error_rad = np.where((residual > 0.14) & (residual < 0.16), 0.01, 0.1)
    assert [error for _, error in error_curve(residual, error_rad, bins=5)] == pytest.approx(
        [0.1] * 5, rel=0.2
    )


def test_frames_of_one_residual_make_one_point_and_few_frames_none():
    assert len(error_curve(np.full(40, 0.1), np.full(40, 0.05), bins=4)) == 1
    with pytest.raises(ValueError, match="too few"):
        error_curve(np.array([0.1, 0.2]), np.array([0.1, 0.2]))
