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


def test_every_orientation_is_found_by_its_name_and_by_its_axes():
    for way in Orientation:
        assert Orientation.of_setting(way.setting) is way
        assert Orientation.of_axes(way.axes) is way


def test_quarter_turns_are_named_as_numpy_turns(rng):
    frame = rng.normal(size=(17, 17))
    for quarters in (1, 2, 3):
        way = Orientation.of_setting(f"rotate{90 * quarters}")
        np.testing.assert_array_equal(way.of(frame), np.rot90(frame, quarters))


@pytest.mark.parametrize(
    ("axes", "y_x"),
    [("y,x", (2, 3)), ("-y,x", (-2, 3)), ("x,y", (3, 2)), ("x,-y", (3, -2)), ("-x,-y", (-3, -2))],
)
def test_axes_say_which_of_the_told_numbers_is_y_and_which_is_x(axes, y_x):
    np.testing.assert_array_equal(Orientation.of_axes(axes).of_positions(np.array([[2.0, 3.0]])), [y_x])


@pytest.mark.parametrize("way", Orientation)
def test_positions_are_turned_as_frames_are(way):
    y, x = 3, -2
    seen = np.zeros((17, 17))
    seen[8 + y, 8 + x] = 1
    turned = way.of_positions(np.array([[y, x]], np.float64))
    assert np.argwhere(way.of(seen)).tolist() == (turned + 8).tolist()
    np.testing.assert_array_equal(way.inverse.of_positions(turned), [[y, x]])


def test_positions_that_lie_as_they_should_are_not_copied():
    positions_m = np.zeros((5, 2))
    assert Orientation.UPRIGHT.of_positions(positions_m) is positions_m


def test_frames_change_places_of_height_and_width_when_they_are_transposed():
    assert {way for way in Orientation if way.of_shape((2, 3)) == (3, 2)} == TRANSPOSING
