from importlib.resources import files

import h5py
import numpy as np
import pytest

from model import judge


def speckle(shape, seed=0, coarse=0.15):
    """A complex object with details down to a few pixels, phase within about ±1 rad."""
    random = np.random.default_rng(seed)
    blur = np.exp(-np.square(np.hypot.outer(*(np.fft.fftfreq(n) for n in shape)) / coarse))
    phase, amplitude = (np.fft.ifft2(np.fft.fft2(random.normal(size=shape)) * blur).real for _ in range(2))
    return (1 + 0.1 * amplitude / amplitude.std()) * np.exp(0.4j * phase / phase.std())


def noise(shape, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=shape) + 1j * random.normal(size=shape)


@pytest.fixture(scope="module")
def star():
    with h5py.File(str(files("service") / "data" / "siemens_star_aps.cxi")) as scan:
        reference = scan["entry_1/reference_1"]
        return {
            "counts": scan["entry_1/data_1/data"][:],
            "positions_m": scan["entry_1/data_1/translation"][:][:, 1::-1],
            **{name: reference[name][()] for name in reference},
        }


def test_an_error_across_the_wrap_is_small():
    assert judge.circular_error(np.array(-3.1), np.array(3.1)) == pytest.approx(2 * np.pi - 6.2)
    assert judge.circular_error(np.array(0.3), np.array(0.5)) == pytest.approx(-0.2)
    assert judge.circular_error(np.array(7.0), np.array(7.0 - 4 * np.pi)) == pytest.approx(0)


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.1, -3.1, np.pi])
def test_one_global_phase_is_no_error(angle):
    truth = speckle((32, 32))
    turned = truth * np.exp(1j * angle)
    np.testing.assert_allclose(judge.align_global_phase(turned, truth), truth, atol=1e-12)
    found = judge.likeness(turned, truth, np.ones(truth.shape, bool))
    assert found.phase_rms_rad < 1e-6
    assert found.phase_correlation == pytest.approx(1)
    assert found.amplitude_correlation == pytest.approx(1)


def test_the_global_phase_is_found_where_the_mask_says():
    truth = speckle((32, 32))
    where = np.zeros(truth.shape, bool)
    where[:16] = True
    estimate = np.where(where, truth * np.exp(0.7j), truth * np.exp(-2j))
    aligned = judge.align_global_phase(estimate, truth, where)
    np.testing.assert_allclose(aligned[:16], truth[:16], atol=1e-12)
    found = judge.likeness(estimate, truth, where)
    assert (found.pixels, found.phase_rms_rad < 1e-6) == (512, True)


def test_aligning_keeps_single_precision():
    truth = speckle((8, 8)).astype(np.complex64)
    assert judge.align_global_phase(truth, truth).dtype == np.complex64


def test_phases_that_straddle_the_wrap_correlate_fully():
    truth = speckle((32, 32)) * np.exp(1j * np.pi)
    assert np.ptp(np.angle(truth)) > 6, "the wrap is in the data"
    nudged = truth * np.exp(1j * 0.01 * np.random.default_rng(0).normal(size=truth.shape))
    assert judge.phase_correlation(nudged, truth) > 0.99


def test_unrelated_objects_do_not_correlate():
    truth, other = speckle((64, 64), seed=1), speckle((64, 64), seed=2)
    assert abs(judge.phase_correlation(other, truth)) < 0.15
    assert abs(judge.amplitude_correlation(other, truth)) < 0.15
    assert judge.phase_correlation(truth.conj(), truth) < -0.9, "the twin is the opposite"


def test_a_flat_object_correlates_with_nothing():
    truth = speckle((16, 16))
    assert judge.phase_correlation(np.ones_like(truth), truth) == 0
    assert judge.amplitude_correlation(truth, np.ones_like(truth)) == 0


def test_errors_are_root_mean_squares():
    truth = np.ones((4, 4), complex)
    assert judge.amplitude_rms(1.5 * truth, truth) == pytest.approx(0.5)
    estimate = truth * np.exp(1j * np.where(np.arange(4) % 2, 0.2, -0.2))
    assert judge.phase_rms_rad(estimate, truth) == pytest.approx(0.2)


def test_nothing_to_compare_is_said():
    truth = speckle((8, 8))
    with pytest.raises(ValueError, match="no pixel"):
        judge.likeness(truth, truth, np.zeros(truth.shape, bool))


@pytest.mark.parametrize("shape", [(64, 64), (63, 90)])
def test_an_object_correlates_with_itself_on_every_ring(shape):
    image = speckle(shape)
    rings = judge.fourier_ring_correlation(image, image)
    np.testing.assert_allclose(rings.correlation, 1, atol=1e-9)
    assert rings.resolution_px(rings.half_bit) == 1
    assert rings.resolution_m(judge.ONE_SEVENTH, 30e-9) == pytest.approx(30e-9)
    assert rings.frequency[-1] <= 0.5


def test_noise_correlates_on_no_ring():
    rings = judge.fourier_ring_correlation(noise((128, 128), 1), noise((128, 128), 2))
    assert np.abs(rings.correlation[10:]).max() < 0.3
    assert rings.resolution_px(rings.half_bit) > 4


def test_noise_alone_beyond_a_frequency_is_found_as_the_resolution():
    shape, cutoff = (256, 256), 0.25
    frequency = np.hypot.outer(*(np.fft.fftfreq(n) for n in shape))

    def with_own_noise(seed):
        spectrum = np.where(frequency < cutoff, np.fft.fft2(noise(shape, 0)), np.fft.fft2(noise(shape, seed)))
        return np.fft.ifft2(spectrum)

    rings = judge.fourier_ring_correlation(with_own_noise(1), with_own_noise(2))
    for threshold in (rings.half_bit, judge.ONE_SEVENTH):
        assert rings.resolution_px(threshold) == pytest.approx(1 / (2 * cutoff), rel=0.05)
        assert rings.resolution_m(threshold, 10e-9) == pytest.approx(20e-9, rel=0.05)


def test_what_is_coarser_than_the_tiles_may_be_wrong_while_the_spokes_are_right():
    rng = np.random.default_rng(3)
    truth, other = (rng.normal(size=(128, 128)) for _ in range(2))
    frequency = np.hypot.outer(np.fft.fftfreq(128), np.fft.fftfreq(128))
    mixed = np.fft.ifft2(np.where(frequency < 0.1, np.fft.fft2(other), np.fft.fft2(truth)))
    rings = judge.fourier_ring_correlation(mixed, truth.astype(complex))
    assert rings.coarsest_px(rings.half_bit) == pytest.approx(1 / (2 * 0.1), rel=0.1)
    assert rings.resolution_px(rings.half_bit) == 1


def test_a_resolution_that_was_never_reached_is_infinite():
    image = noise((64, 64), 0)
    rings = judge.fourier_ring_correlation(image, -image)
    assert rings.resolution_px(rings.half_bit) == np.inf


def test_a_common_background_is_not_likeness():
    background = 100.0
    rings = judge.fourier_ring_correlation(
        noise((128, 128), 1) + background, noise((128, 128), 2) + background
    )
    assert np.abs(rings.correlation[2:]).max() < 0.6


def test_images_of_different_shapes_have_no_common_rings():
    with pytest.raises(ValueError, match="rings"):
        judge.fourier_ring_correlation(noise((8, 8), 0), noise((8, 9), 0))


@pytest.mark.parametrize("origin", [(3, 5), (-4, 2), (0, 0), (-70, 0), (90, 0), (5, -200)])
def test_whole_pixels_are_copied_and_the_rest_is_zero(origin):
    image = speckle((40, 50))
    resampled = judge.resample_to_reference(image, np.array(origin), (60, 44))
    expected = np.zeros((60, 44), complex)
    for row, column in np.ndindex(expected.shape):
        y, x = row - origin[0], column - origin[1]
        if 0 <= y < 40 and 0 <= x < 50:
            expected[row, column] = image[y, x]
    np.testing.assert_array_equal(resampled, expected)


def test_fractions_of_a_pixel_follow_a_slope_exactly():
    rows, columns = np.indices((40, 40)).astype(np.float32)
    resampled = judge.resample_to_reference(3 * rows - 2 * columns, np.array([4.3, -6.6]), (40, 30))
    assert resampled.dtype == np.float32
    rows, columns = np.indices((40, 30))
    expected = 3 * (rows - 4.3) - 2 * (columns + 6.6)
    np.testing.assert_allclose(resampled[5:, :30], expected[5:], atol=1e-3)


def test_positions_of_the_star_in_metres_and_pixels_differ_by_one_offset(star):
    origin, residual_px = judge.position_origin_px(
        star["positions_m"], star["positions_px"], (128, 128), star["object_pixel_m"]
    )
    np.testing.assert_allclose(origin, [236.386, 236.150], atol=1e-3)
    assert residual_px < 1e-6


def test_swapped_axes_show_as_a_large_residual(star):
    _, residual_px = judge.position_origin_px(
        star["positions_m"][:, ::-1], star["positions_px"], (128, 128), star["object_pixel_m"]
    )
    assert residual_px > 50


def test_the_reference_explains_the_measured_star_and_a_flat_object_does_not(star):
    def residual(transmission):
        return judge.forward_residual(
            star["probe"], transmission, star["counts"][::4], star["positions_px"][::4]
        )

    assert residual(star["object"]) == pytest.approx(0.101, abs=0.002)
    assert residual(np.ones_like(star["object"])) == pytest.approx(0.247, abs=0.004)
    assert residual(star["object"].conj()) > 0.3


def test_the_residual_knows_no_global_phase_and_no_batches(star):
    some = slice(0, 20)
    counts, top_left_px = star["counts"][some], star["positions_px"][some]
    one = judge.forward_residual(star["probe"], star["object"], counts, top_left_px, batch=20)
    turned = star["object"] * np.complex64(np.exp(2j))
    assert judge.forward_residual(star["probe"], turned, counts, top_left_px, batch=7) == pytest.approx(
        one, rel=1e-4
    )


def test_the_probe_is_shifted_by_the_fraction_of_the_position(star):
    some = slice(0, 40)
    counts, top_left_px = star["counts"][some], star["positions_px"][some]
    whole = np.round(top_left_px)
    exact, rounded, mirrored = (
        judge.forward_residual(star["probe"], star["object"], counts, whole + share * (top_left_px - whole))
        for share in (1, 0, -1)
    )
    assert exact < rounded < mirrored


def test_simulated_frames_leave_no_residual():
    probe, transmission = noise((2, 8, 8), 0), noise((20, 20), 1)
    top_left_px = np.array([[0, 0], [12, 12], [3, 7]])
    counts = np.stack(
        [
            np.square(np.abs(np.fft.fftshift(np.fft.fft2(probe * patch, norm="ortho"), axes=(1, 2)))).sum(0)
            for patch in (transmission[y : y + 8, x : x + 8] for y, x in top_left_px)
        ]
    )
    assert judge.forward_residual(probe, transmission, counts, top_left_px) < 1e-12


@pytest.mark.parametrize("corner", [(-1, 0), (0, 13)])
def test_a_patch_beyond_the_object_is_refused(corner):
    with pytest.raises(ValueError, match="beyond"):
        judge.forward_residual(
            noise((1, 8, 8), 0), noise((20, 20), 1), np.ones((1, 8, 8)), np.array([corner])
        )
