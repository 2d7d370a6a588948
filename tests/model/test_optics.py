import numpy as np
import pytest

from model.optics import centre_crop, dft_matrix, far_field, intensity


def test_the_far_field_is_the_shifted_unitary_transform_of_the_exit_wave(probe, tiles):
    field = np.fft.fftshift(np.fft.fft2(probe[None] * tiles[:, None], norm="ortho"), axes=(-2, -1))
    expected = (np.abs(field) ** 2).sum(axis=1)
    np.testing.assert_allclose(far_field(probe, tiles), expected, rtol=1e-4, atol=1e-3)


def test_no_photon_is_lost_on_the_way_to_the_detector(probe, tiles):
    at_sample = (intensity(probe) * np.abs(tiles) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(far_field(probe, tiles).sum(axis=(1, 2)), at_sample, rtol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
def test_the_zero_frequency_lies_at_half_the_side(side):
    pattern = far_field(np.ones((1, side, side), np.complex64), np.ones((1, side, side), np.complex64))
    assert np.unravel_index(pattern.argmax(), (1, side, side)) == (0, side // 2, side // 2)


def test_inverting_an_even_object_flips_its_pattern_and_rolls_it_by_one(rng):
    # the twin of a real probe: O*(-r) gives the same pattern, and r → -r is a flip plus a roll
    probe = np.ones((1, 8, 8), np.complex64)
    tile = (rng.normal(size=(1, 8, 8)) + 1j * rng.normal(size=(1, 8, 8))).astype(np.complex64)
    inverted = np.roll(tile[:, ::-1, ::-1], 1, axis=(1, 2))
    pattern = far_field(probe, tile)
    np.testing.assert_allclose(far_field(probe, inverted.conj()), pattern, rtol=1e-3, atol=1e-4)
    expected = np.roll(pattern[:, ::-1, ::-1], 1, axis=(1, 2))
    np.testing.assert_allclose(far_field(probe, inverted), expected, rtol=1e-3, atol=1e-4)


def test_a_global_phase_of_the_object_is_not_in_the_pattern(probe, tiles):
    turned = (tiles * np.exp(1.3j)).astype(np.complex64)
    np.testing.assert_allclose(far_field(probe, turned), far_field(probe, tiles), rtol=1e-3, atol=1e-3)


def test_a_stronger_probe_and_a_weaker_object_give_the_same_pattern(probe, tiles):
    np.testing.assert_allclose(far_field(3 * probe, tiles / 3), far_field(probe, tiles), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(far_field(3 * probe, tiles), 9 * far_field(probe, tiles), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("size", "window"), [(16, 16), (15, 15), (16, 10), (16, 9), (15, 8)])
def test_the_matrix_transforms_a_centred_window_as_numpy_does_the_padded_whole(rng, size, window):
    part = rng.normal(size=window) + 1j * rng.normal(size=window)
    whole = np.zeros(size, complex)
    start = size // 2 - window // 2
    whole[start : start + window] = part
    # the matrix measures positions from pixel 0, as numpy's transform does
    expected = np.fft.fftshift(np.fft.fft(whole, norm="ortho"))
    matrix = dft_matrix(size, window)
    np.testing.assert_allclose(matrix @ part, expected, atol=1e-12)
    np.testing.assert_allclose(matrix.conj().T @ expected, part, atol=1e-12)


@pytest.mark.parametrize(("side", "part"), [(8, 4), (8, 3), (7, 4), (7, 3)])
def test_the_centre_of_the_whole_is_the_centre_of_the_crop(side, part):
    image = np.zeros((2, side, side))
    image[:, side // 2, side // 2] = 1
    assert (centre_crop(image, (part, part))[:, part // 2, part // 2] == 1).all()


def test_a_crop_is_a_view_that_can_be_written_through():
    image = np.zeros((8, 8))
    centre_crop(image, (2, 4))[...] = 1
    assert image.sum() == 8
