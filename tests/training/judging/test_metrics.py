import json
import math

import numpy as np
import pytest

from training.judging.metrics import (
    Spread,
    as_json,
    circular_figures,
    judge_image,
    judge_tiles,
    plain_figures,
    spread,
)


def smooth(shape, seed, low, high):
    """Return random detail, a few pixels wide, between two values."""
    random = np.random.default_rng(seed)
    frequency = np.hypot.outer(*(np.fft.fftfreq(n) for n in shape))
    image = np.fft.ifft2(np.fft.fft2(random.normal(size=shape)) * np.exp(-np.square(frequency / 0.15))).real
    return low + (high - low) * (image - image.min()) / np.ptp(image)


def noise(shape, seed, scale):
    return scale * np.random.default_rng(seed).normal(size=shape)


def stack(low, high, tiles=3):
    return np.stack([smooth((16, 16), seed, low, high) for seed in range(tiles)])


@pytest.fixture(scope="module")
def field():
    """Amplitude and phase of a 48 × 48 object whose phase wraps, and a mask with holes in it."""
    where = np.zeros((48, 48), bool)
    where[4:44, 6:40] = True
    where[20:23, 20:23] = False
    return smooth((48, 48), 1, 0.5, 1.0), smooth((48, 48), 2, -5.0, 5.0), where


def test_a_perfect_image_has_no_error_and_infinite_psnr():
    truth = smooth((32, 32), 0, 0.5, 1.0)
    found = plain_figures(truth, truth)
    assert (found.mse, found.mae, found.psnr_db) == (0, 0, math.inf)
    assert found.ssim == pytest.approx(1)


def test_a_constant_offset_gives_its_own_mean_errors():
    truth = smooth((32, 32), 0, 0.0, 0.5)
    found = plain_figures(truth - 0.1, truth)
    assert (found.mse, found.mae) == (pytest.approx(0.01), pytest.approx(0.1))
    assert found.psnr_db == pytest.approx(10 * math.log10(0.5**2 / 0.01))
    assert plain_figures(truth - 0.1, truth, 1.0).psnr_db == pytest.approx(20)


def test_a_flat_tile_has_no_psnr_and_no_ssim_in_its_own_range():
    flat, estimate = np.ones((16, 16)), np.full((16, 16), 0.9)
    own, fixed = plain_figures(estimate, flat), plain_figures(estimate, flat, 1.0)
    assert own.mse == pytest.approx(0.01)
    assert math.isnan(own.psnr_db)
    assert math.isnan(own.ssim)
    assert fixed.psnr_db == pytest.approx(20)
    assert 0.9 < fixed.ssim < 1


def test_single_precision_does_not_change_the_figures():
    truth = smooth((32, 32), 0, -3.0, 3.0)
    estimate = truth + noise(truth.shape, 1, 0.1)
    single = plain_figures(estimate.astype(np.float32), truth.astype(np.float32))
    assert single.ssim == pytest.approx(plain_figures(estimate, truth).ssim, abs=1e-5)


@pytest.mark.parametrize(("shape", "complaint"), [((16, 15), "cannot be compared"), ((5, 5), "win_size")])
def test_images_that_cannot_be_compared_are_refused(shape, complaint):
    truth = np.zeros((16, 16)) if shape == (16, 15) else np.eye(5)
    with pytest.raises(ValueError, match=complaint):
        plain_figures(np.zeros(shape), truth)


@pytest.mark.parametrize("turn_rad", [0.0, 1.0, 3.1, -3.1, 20.0])
def test_circular_figures_do_not_know_the_global_phase(turn_rad):
    truth = smooth((32, 32), 0, -4.0, 4.0)
    estimate = truth + noise(truth.shape, 1, 0.2)
    found, turned = circular_figures(estimate, truth), circular_figures(estimate + turn_rad, truth)
    assert found.rms_rad == pytest.approx(0.2, rel=0.05)
    assert turned.rms_rad == pytest.approx(found.rms_rad)
    assert turned.mae_rad == pytest.approx(found.mae_rad)
    difference = turned.global_phase_rad - found.global_phase_rad + turn_rad
    assert math.cos(difference) == pytest.approx(1)


def test_a_perfect_phase_has_no_circular_error_whatever_its_wraps():
    truth = smooth((32, 32), 0, -9.0, 9.0)
    found = circular_figures(np.angle(np.exp(1j * truth)), truth)
    assert found.rms_rad < 1e-12
    assert found.mae_rad < 1e-12
    assert found.correlation == pytest.approx(1)


def test_pixels_without_weight_do_not_count():
    truth = smooth((32, 32), 0, -1.0, 1.0)
    weight = np.zeros(truth.shape)
    weight[:16] = 2.0
    estimate = np.where(weight > 0, truth + 0.4, np.nan)
    found = circular_figures(estimate, truth, weight)
    assert found.rms_rad < 1e-12
    assert found.correlation == pytest.approx(1)
    assert found.global_phase_rad == pytest.approx(-0.4)


def test_pixels_of_more_weight_count_more():
    found = circular_figures(np.array([0.1, -0.3]), np.zeros(2), np.array([3.0, 1.0]))
    assert found.global_phase_rad == pytest.approx(0, abs=0.01)
    assert found.rms_rad == pytest.approx(math.sqrt((3 * 0.1**2 + 0.3**2) / 4), rel=0.01)
    assert found.mae_rad == pytest.approx(0.15, rel=0.02)


def test_the_global_phase_is_that_of_the_bright_pixels():
    truth, estimate = np.zeros(2), np.array([0.5, 1.5])
    found = circular_figures(estimate, truth, true_amplitude=np.array([1.0, 1e-6]))
    assert found.global_phase_rad == pytest.approx(-0.5, abs=1e-5)
    found = circular_figures(estimate, truth, estimated_amplitude=np.array([1e-6, 1.0]))
    assert found.global_phase_rad == pytest.approx(-1.5, abs=1e-5)


def test_without_any_weight_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no pixel to compare"):
        circular_figures(np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((8, 8)))


def test_a_spread_leaves_out_what_is_not_finite_and_counts_the_rest():
    assert spread([1.0, math.nan, 3.0, math.inf]) == Spread(2.0, 1.0, 2)
    nothing = spread([math.nan])
    assert nothing.count == 0
    assert math.isnan(nothing.mean)
    assert math.isnan(nothing.std)


def test_a_flat_tile_counts_for_the_errors_of_a_set_and_not_for_its_psnr():
    amplitude, phase_rad = stack(0.5, 1.0), stack(-1.0, 1.0)
    amplitude[1] = 0.8
    found = judge_tiles(amplitude + 0.05, phase_rad, amplitude, phase_rad)
    assert found.amplitude.truth.mse == Spread(pytest.approx(0.0025), pytest.approx(0, abs=1e-9), 3)
    assert (found.amplitude.truth.psnr_db.count, found.amplitude.truth.ssim.count) == (2, 2)
    assert found.amplitude.fixed.psnr_db == Spread(
        pytest.approx(10 * math.log10(1 / 0.0025)), pytest.approx(0, abs=1e-9), 3
    )


def test_the_fixed_range_of_a_phase_is_that_of_all_tiles():
    amplitude, phase_rad = stack(0.5, 1.0), stack(0.0, 1.0)
    phase_rad[2] *= 4
    found = judge_tiles(amplitude, phase_rad + 0.1, amplitude, phase_rad)
    assert found.phase.fixed.psnr_db.mean == pytest.approx(10 * math.log10(4**2 / 0.1**2))
    assert found.phase.truth.psnr_db.mean == pytest.approx(20 + 10 * math.log10(4**2) / 3)


def test_each_tile_is_turned_by_its_own_global_phase():
    amplitude, phase_rad = stack(0.5, 1.0), stack(-1.0, 1.0)
    turned = phase_rad + np.array([0.3, -0.3, 3.0])[:, None, None]
    found = judge_tiles(amplitude, turned, amplitude, phase_rad)
    assert found.circular_rms_rad.mean < 1e-12
    assert found.circular_rms_unaligned_rad.mean == pytest.approx(1.2)


def test_dark_pixels_do_not_turn_a_tile():
    bright, phase_rad = np.ones((1, 8, 8)), stack(-1.0, 1.0, 1)[:, :8, :8]
    half_dark = bright.copy()
    half_dark[:, 4:] = 1e-6
    turned = phase_rad + np.where(half_dark < 1, 1.0, 0.0)
    for painted, true in ((half_dark, bright), (bright, half_dark), (None, half_dark)):
        found = judge_tiles(painted, turned, true, phase_rad)
        assert found.circular_rms_rad.mean == pytest.approx(math.sqrt(0.5), abs=1e-4)


def test_a_set_without_amplitudes_is_judged_by_its_phases():
    phase_rad = stack(-1.0, 1.0)
    found = judge_tiles(None, phase_rad + 0.2, np.ones_like(phase_rad), phase_rad)
    assert found.amplitude is None
    assert found.phase.truth.mae.mean == pytest.approx(0.2)
    assert found.circular_rms_rad.mean < 1e-12


def test_sets_of_other_shapes_are_refused():
    phase_rad = stack(-1.0, 1.0)
    with pytest.raises(ValueError, match=r"truth of \(3, 16, 16\)"):
        judge_tiles(None, phase_rad[:2], np.ones_like(phase_rad), phase_rad)


def test_a_perfect_mosaic_is_perfect_where_the_mask_says(field):
    amplitude, phase_rad, where = field
    found = judge_image(
        np.where(where, amplitude, 0), np.where(where, phase_rad + 0.5, 0), amplitude, phase_rad, where
    )
    assert found.pixels == 40 * 34 - 9
    assert found.circular.rms_rad < 1e-12
    assert found.circular.global_phase_rad == pytest.approx(-0.5)
    assert found.circular_rms_unaligned_rad == pytest.approx(0.5)
    assert found.phase.truth.mae == pytest.approx(
        (0.5 * found.pixels + np.abs(phase_rad[20:23, 20:23]).sum()) / (40 * 34)
    )


def test_the_plain_figures_of_a_mosaic_are_those_of_the_mask_s_bounding_box(field):
    amplitude, phase_rad, where = field
    painted = amplitude + noise(amplitude.shape, 3, 0.02)
    found = judge_image(painted, phase_rad, amplitude, phase_rad, where)
    box = np.s_[4:44, 6:40]
    assert found.amplitude.truth == plain_figures(painted[box], amplitude[box])
    assert found.amplitude.fixed == plain_figures(painted[box], amplitude[box], 1.0)


def test_the_fixed_range_of_a_mosaic_s_phase_is_that_of_the_whole_truth(field):
    amplitude, phase_rad, where = field
    whole = phase_rad.copy()
    whole[0, 0] += 100
    found = judge_image(None, phase_rad + 0.1, amplitude, whole, where)
    assert found.phase.fixed.psnr_db == pytest.approx(10 * math.log10(np.ptp(whole) ** 2 / 0.01))


def test_the_resolution_of_a_blurred_mosaic_is_worse_than_a_pixel(field):
    amplitude, phase_rad, where = field
    truth = amplitude * np.exp(1j * phase_rad)
    sharp = judge_image(amplitude, phase_rad, amplitude, phase_rad, where)
    frequency = np.hypot.outer(np.fft.fftfreq(48), np.fft.fftfreq(48))
    speckle = noise(truth.shape, 4, 0.5) + 1j * noise(truth.shape, 5, 0.5)
    blurred = np.fft.ifft2(np.where(frequency < 0.2, np.fft.fft2(truth), np.fft.fft2(speckle)))
    found = judge_image(np.abs(blurred), np.angle(blurred), amplitude, phase_rad, where)
    assert (sharp.half_bit_px, sharp.one_seventh_px) == (1, 1)
    assert found.half_bit_px == pytest.approx(1 / (2 * 0.2), rel=0.3)


def test_the_resolution_knows_neither_the_global_phase_nor_what_lies_beyond_the_mask(field):
    amplitude, phase_rad, where = field
    box = np.zeros_like(where)
    box[4:44, 6:40] = True
    bright, turned = np.where(box, amplitude, 50), np.where(box, phase_rad + 3, phase_rad)
    assert judge_image(bright, turned, amplitude, phase_rad, where).half_bit_px == 1


def test_the_global_phase_of_a_mosaic_is_that_of_its_bright_pixels(field):
    amplitude, phase_rad, where = field
    upper = np.zeros_like(where)
    upper[:24] = True
    turned, painted = phase_rad + np.where(upper, 0.4, 1.4), np.where(upper, amplitude, 1e-6)
    found = judge_image(painted, turned, amplitude, phase_rad, where)
    assert found.circular.global_phase_rad == pytest.approx(-0.4, abs=1e-4)
    found = judge_image(None, turned, painted, phase_rad, where)
    assert found.circular.global_phase_rad == pytest.approx(-0.4, abs=1e-4)


def test_a_phase_only_mosaic_is_not_blamed_for_the_amplitude(field):
    _, phase_rad, where = field
    speckled = np.abs(noise(phase_rad.shape, 6, 1.0))
    found = judge_image(None, phase_rad + 3, speckled, phase_rad, where)
    assert found.amplitude is None
    assert found.circular.rms_rad < 1e-12
    assert found.half_bit_px == 1


def test_a_mosaic_beside_the_truth_cannot_be_judged(field):
    amplitude, phase_rad, where = field
    with pytest.raises(ValueError, match="no pixel to compare"):
        judge_image(amplitude, phase_rad, amplitude, phase_rad, np.zeros_like(where))


def test_figures_become_strict_json_without_nan_and_infinity():
    flat = np.ones((2, 16, 16))
    plain = as_json(judge_tiles(flat, flat, flat, flat))
    assert plain["amplitude"]["truth"]["ssim"] == {"mean": None, "std": None, "count": 0}
    assert as_json(plain_figures(np.eye(8), np.eye(8)))["psnr_db"] is None
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
