import numpy as np
import pytest

from model.geometry import object_pixel_m, overlap, probe_weight, to_pixels


def spot(side, at, modes=1):
    probe = np.zeros((modes, side, side), np.complex64)
    probe[:, at[0], at[1]] = 3j
    return probe


def test_the_object_pixel_is_the_wavelength_times_distance_over_the_detector_width():
    pixel_m = object_pixel_m(1.4089e-10, 2.055731421676485, 75e-6, 128)
    assert pixel_m == pytest.approx(30.17e-9, rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [(0, 1, 1, 1), (1, -1, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0), (np.nan, 1, 1, 1)]
)
def test_a_geometry_without_size_is_refused(wrong):
    with pytest.raises(ValueError, match="positive"):
        object_pixel_m(*wrong)


def test_positions_keep_their_fractions_and_their_signs():
    np.testing.assert_allclose(to_pixels(np.array([[-15e-9, 25e-9]]), 10e-9), [[-1.5, 2.5]])


def test_overlap_is_one_minus_step_over_diameter():
    assert overlap(0.5e-6, 2e-6) == pytest.approx(0.75)
    assert overlap(3e-6, 2e-6) < 0
    with pytest.raises(ValueError, match="diameter"):
        overlap(1e-6, 0.0)


@pytest.mark.parametrize(("side", "tile"), [(16, 8), (16, 7), (15, 8), (15, 7), (16, 16)])
def test_the_centre_of_the_probe_is_the_centre_of_the_tile(side, tile):
    weight = probe_weight(spot(side, (side // 2, side // 2)), (tile, tile))
    assert weight.shape == (tile, tile)
    assert weight.dtype == np.float32
    assert np.unravel_index(weight.argmax(), weight.shape) == (tile // 2, tile // 2)
    assert weight.max() == 1


def test_a_probe_weighs_by_its_intensity_in_all_modes():
    probe = spot(32, (16, 16), modes=2)
    probe[1] = 0
    probe[1, 16, 22] = 6j
    weight = probe_weight(probe, (20, 20))
    assert weight[10, 10] / weight[10, 16] == pytest.approx(1 / 4, rel=1e-6)


def test_smoothing_spreads_light_evenly_and_keeps_it():
    weight = probe_weight(spot(16, (8, 7)), (16, 16))
    assert weight.min() >= 0
    assert weight.sum() * (6 / 16) ** 2 == pytest.approx(1, rel=1e-6)
    assert weight[8, 6] == weight[8, 8] == weight[7, 7] == weight[9, 7]


def test_a_probe_of_any_strength_gives_the_same_weight():
    probe = np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.complex64)
    np.testing.assert_allclose(probe_weight(probe, (8, 8)), probe_weight(1e3 * probe, (8, 8)), rtol=1e-5)


def test_a_tile_cannot_be_larger_than_its_probe_nor_dark():
    with pytest.raises(ValueError, match="larger"):
        probe_weight(spot(16, (8, 8)), (18, 8))
    with pytest.raises(ValueError, match="no light"):
        probe_weight(spot(32, (0, 0)), (8, 8))
