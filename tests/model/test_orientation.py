"""Frames that lie otherwise on the detector than they should."""

import numpy as np
import pytest

from model.optics import far_field
from model.orientation import Orientation

TRANSPOSING = {way for way in Orientation if way.transposed}


@pytest.fixture
def pattern(rng):
    return rng.permutation(16 * 16).reshape(16, 16).astype(np.uint16)


def test_there_are_eight_different_orientations(pattern):
    assert len({way.of(pattern).tobytes() for way in Orientation}) == 8
    assert len({way.words for way in Orientation}) == 8


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("way", Orientation)
def test_the_inverse_undoes_an_orientation(way, side, rng):
    frames = rng.integers(0, 99, (3, 1, side, side))
    np.testing.assert_array_equal(way.inverse.of(way.of(frames)), frames)


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("way", Orientation)
def test_the_zero_frequency_stays_where_it_is(way, side):
    frame = np.zeros((side, side))
    frame[side // 2, side // 2] = 1
    np.testing.assert_array_equal(way.of(frame), frame)


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("way", Orientation)
def test_the_pattern_of_a_turned_probe_and_object_is_the_turned_pattern(way, side, rng):
    probe, tile = rng.normal(size=(2, 1, side, side)) + 1j * rng.normal(size=(2, 1, side, side))
    turned = far_field(way.of(probe), way.of(tile))
    np.testing.assert_allclose(turned, way.of(far_field(probe, tile)), rtol=1e-4, atol=1e-4)


def test_the_words_mean_what_numpy_does_with_an_odd_number_of_pixels(rng):
    frame = rng.normal(size=(17, 17))
    by_numpy = {
        "as they should be": frame,
        "mirrored left-right": np.fliplr(frame),
        "mirrored up-down": np.flipud(frame),
        "rotated by 180°": np.rot90(frame, 2),
        "rotated by 90° counter-clockwise": np.rot90(frame),
        "rotated by 90° clockwise": np.rot90(frame, -1),
        "transposed": frame.T,
        "transposed about the other diagonal": np.rot90(frame, 2).T,
    }
    for way in Orientation:
        np.testing.assert_array_equal(way.of(frame), by_numpy[way.words])


def test_only_square_frames_can_be_transposed():
    assert {way for way in Orientation if not way.fits((16, 24))} == TRANSPOSING
    assert all(way.fits((16, 16)) for way in Orientation)
