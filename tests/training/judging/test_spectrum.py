import math

import numpy as np
import pytest

from training.judging.spectrum import band_shares, power_spectrum, radial_mean


def wave(shape, cycles_down, cycles_across, phase_rad=0.3):
    y, x = np.indices(shape)
    return np.cos(2 * np.pi * (cycles_down * y / shape[0] + cycles_across * x / shape[1]) + phase_rad)


@pytest.mark.parametrize("shape", [(32, 32), (31, 33), (24, 40)])
def test_the_zero_frequency_lies_in_the_middle_and_is_empty(shape):
    spectrum = power_spectrum(wave(shape, 3, -2) + 7)
    middle = (shape[0] // 2, shape[1] // 2)
    assert spectrum[middle] == pytest.approx(0, abs=1e-20)
    assert spectrum[middle[0] + 3, middle[1] - 2] == pytest.approx(spectrum.max())
    assert spectrum[middle[0] - 3, middle[1] + 2] == pytest.approx(spectrum.max())


def test_the_power_is_that_of_the_image():
    image = np.random.default_rng(0).normal(size=(32, 24))
    assert power_spectrum(image).sum() == pytest.approx(image.size * image.var())


def test_a_wave_shows_in_the_ring_of_its_frequency():
    frequency, power = radial_mean(power_spectrum(wave((64, 64), 0, 8)))
    assert (frequency[0], frequency[-1]) == (0, 0.5)
    assert frequency[power.argmax()] == 8 / 64
    assert np.count_nonzero(power > 1e-9 * power.max()) == 1


def test_rings_of_an_oblong_image_are_round_in_frequency():
    down, across = (radial_mean(power_spectrum(wave((32, 64), *cycles))) for cycles in ((6, 0), (0, 12)))
    assert len(down[0]) == 17
    assert down[0][down[1].argmax()] == across[0][across[1].argmax()] == 6 / 32


@pytest.mark.parametrize(
    ("cycles", "shares"), [(4, (1, 0, 0)), (8, (0, 1, 0)), (15, (0, 1, 0)), (16, (0, 0, 1)), (24, (0, 0, 1))]
)
def test_a_wave_falls_in_its_band(cycles, shares):
    found = band_shares(wave((48, 48), cycles, 0))
    assert (found.low, found.mid, found.high) == pytest.approx(shares, abs=1e-9)


def test_shares_sum_to_one_and_do_not_know_mean_and_contrast():
    image = np.random.default_rng(1).normal(size=(40, 56)).cumsum(axis=0).cumsum(axis=1)
    found, other = band_shares(image), band_shares(100 - 3 * image)
    assert found.low + found.mid + found.high == pytest.approx(1)
    assert (other.low, other.mid, other.high) == pytest.approx((found.low, found.mid, found.high))
    assert found.low > found.mid > found.high > 0


def test_white_noise_shares_its_energy_as_the_areas_of_the_bands():
    found = band_shares(np.random.default_rng(2).normal(size=(256, 256)))
    assert (found.low, found.mid, found.high) == pytest.approx((1 / 9, 3 / 9, 5 / 9), abs=0.01)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.1])
def test_a_flat_image_has_no_energy_to_share(value):
    found = band_shares(np.full((30, 30), value))
    assert all(math.isnan(share) for share in (found.low, found.mid, found.high))
