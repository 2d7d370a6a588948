"""Detector frames that become the model's: cut out about the beam, binned, turned."""

import numpy as np
import pytest

from model.orientation import Orientation
from service.framing import Framing, FramingError, plan_framing

BAD = {"u1": 255, "u2": 65535, "u4": 2**32 - 1}
UNSIGNED = sorted(BAD)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def beam_at(row, column, shape=(40, 50), dtype=np.uint16):
    """Return a frame with all its light on one pixel."""
    frame = np.zeros(shape, dtype)
    frame[row, column] = 100
    return frame


def framed(frame, wanted=(16, 16), **told):
    framing = plan_framing(frame.shape, wanted, **told)
    found = framing.of_counts(frame)
    assert found.shape == framing.frame_shape == wanted
    return found


def binned(frame, by=2, **told):
    shape = (frame.shape[0] // by, frame.shape[1] // by)
    return framed(np.asarray(frame), shape, binning=by, **told)


# Nothing to do


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_a_frame_that_is_as_the_model_wants_it_is_the_very_same_array(dtype):
    frame = np.ones((16, 16), dtype)
    framing = plan_framing((16, 16), (16, 16))
    assert framing.of_counts(frame) is frame
    assert framing.of_dtype(frame.dtype) == frame.dtype


# Crop


@pytest.mark.parametrize("way", Orientation)
@pytest.mark.parametrize("wanted", [(16, 16), (15, 15), (12, 20)])
def test_the_beam_comes_to_lie_on_the_zero_frequency(wanted, way):
    found = framed(beam_at(21, 27), wanted, beam_px=(21, 27), orientation=way)
    assert found[wanted[0] // 2, wanted[1] // 2] == 100
    assert found.sum() == 100


@pytest.mark.parametrize(
    ("shape", "middle"), [((40, 50), (20, 25)), ((41, 51), (20, 25)), ((16, 17), (8, 8))]
)
def test_where_nobody_tells_of_the_beam_it_is_in_the_middle(shape, middle):
    assert framed(beam_at(*middle, shape))[8, 8] == 100


@pytest.mark.parametrize("beam_px", [(21.4, 26.6), (20.5, 26.51), (21.2, 27.49)])
def test_the_nearest_pixel_is_taken_for_a_beam_between_pixels(beam_px):
    assert framed(beam_at(21, 27), beam_px=beam_px)[8, 8] == 100


def test_the_pixels_about_the_beam_stay_as_they_are(rng):
    frame = rng.integers(0, 2**32, (40, 50), np.uint32)
    np.testing.assert_array_equal(framed(frame, beam_px=(20, 30)), frame[12:28, 22:38])


@pytest.mark.parametrize("told", [{}, {"beam_px": (8, 30)}, {"orientation": Orientation.TRANSPOSED}])
def test_what_is_cut_out_does_not_keep_the_whole_detector_in_memory(told):
    found = framed(np.zeros((1065, 16 if not told else 1030), np.uint32), **told)
    assert found.base is None
    assert found.flags.c_contiguous


@pytest.mark.parametrize("beam_px", [(7, 20), (20, 7), (33, 20), (20, 43), (-500, 20), (20, 1e9)])
def test_a_crop_beyond_the_detector_is_refused(beam_px):
    with pytest.raises(FramingError, match="reaches beyond frames of 40 × 50: check beam_centre"):
        plan_framing((40, 50), (16, 16), beam_px=beam_px)


@pytest.mark.parametrize("beam_px", [(8, 8), (32, 42)])
def test_a_crop_may_reach_to_the_edge_of_the_detector(beam_px):
    assert framed(beam_at(*beam_px), beam_px=beam_px)[8, 8] == 100


def test_frames_smaller_than_the_models_are_refused():
    with pytest.raises(
        FramingError, match="frames of 40 × 50 are too small for the model's 32 × 32 with a bin of 2"
    ):
        plan_framing((40, 50), (32, 32), binning=2)


def test_a_crop_that_does_not_give_the_models_frames_is_refused_with_the_one_that_does():
    assert plan_framing((40, 50), (16, 16), binning=2, crop=(32, 32)).cut_shape == (32, 32)
    with pytest.raises(FramingError, match=r"a crop of 30 × 32 with a bin of 2 .* 16 × 16: 32 × 32 does"):
        plan_framing((40, 50), (16, 16), binning=2, crop=(30, 32))


# Bin


@pytest.mark.parametrize("by", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f4"])
def test_counts_of_binned_pixels_are_added_up(dtype, by, rng):
    frame = rng.integers(0, 200, (8 * by, 6 * by)).astype(dtype)
    by_hand = frame.astype(float).reshape(8, by, 6, by).sum(axis=(1, 3))
    np.testing.assert_array_equal(binned(frame, by), by_hand)


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_one_bad_pixel_makes_the_binned_one_bad_with_the_mark_of_its_type(dtype):
    frame = np.ones((8, 8), dtype)
    frame[2, 5] = BAD[dtype]
    found = binned(frame)
    bad = found == np.iinfo(found.dtype).max
    assert np.argwhere(bad).tolist() == [[1, 2]]
    assert set(found[~bad].tolist()) == {4}


def test_a_pixel_that_is_no_number_makes_the_binned_one_none():
    frame = np.ones((8, 8), np.float32)
    frame[2, 5], frame[6, 0], frame[7, 1], frame[0, :2] = np.nan, -np.inf, np.inf, 3e38
    assert np.argwhere(np.isnan(binned(frame))).tolist() == [[0, 0], [1, 2], [3, 0]]


@pytest.mark.parametrize("dtype", ["u2", "u4", "f4"])
def test_a_saturated_pixel_makes_the_binned_one_bad(dtype):
    frame = np.full((4, 4), 999, dtype)
    frame[0, 0] = 1000
    found = binned(frame, saturation=1000.0)
    bad = np.isnan(found) if dtype == "f4" else found == np.iinfo(found.dtype).max
    assert bad.tolist() == [[True, False], [False, False]]
    assert found[1, 1] == 4 * 999


@pytest.mark.parametrize(
    ("dtype", "saturation", "wide"),
    [
        ("u1", None, "<u2"),
        ("u1", 60.0, "u1"),
        ("u2", None, "<u4"),
        ("u2", 4095.0, "<u2"),
        ("u4", None, "<u4"),
    ],
)
def test_the_type_is_wide_enough_for_the_sums(dtype, saturation, wide):
    framing = plan_framing((8, 8), (4, 4), binning=2, saturation=saturation)
    assert framing.of_dtype(np.dtype(dtype)) == np.dtype(wide)
    most = (BAD[dtype] if saturation is None else int(saturation)) - 1
    found = framing.of_counts(np.full((8, 8), most, dtype))
    assert found.dtype == np.dtype(wide)
    assert found.min() == min(4 * most, 2**32 - 2), "a sum is never taken for the mark of a bad pixel"


@pytest.mark.parametrize("by", [2, 3, 4])
def test_the_beam_lies_in_the_binned_pixel_of_the_zero_frequency(by):
    found = framed(beam_at(101, 90, (200, 210)), binning=by, beam_px=(101, 90))
    assert found[8, 8] == 100


@pytest.mark.parametrize("by", [1, 2, 3, 4])
def test_a_detector_of_just_the_right_size_is_taken_whole(by):
    shape = (16 * by, 16 * by)
    for beam_px in (None, (8 * by, 8 * by)):
        assert plan_framing(shape, (16, 16), binning=by, beam_px=beam_px).corner == (0, 0)


# Turn


@pytest.mark.parametrize("way", Orientation)
def test_frames_are_turned_after_they_are_cut_out(way, rng):
    frame = rng.integers(0, 99, (40, 50), np.uint16)
    found = framed(frame, beam_px=(20, 30), orientation=way)
    np.testing.assert_array_equal(found, way.of(frame[12:28, 22:38]))


@pytest.mark.parametrize("way", Orientation)
@pytest.mark.parametrize("by", [1, 2])
def test_a_mask_is_framed_as_the_frames_are(way, by, rng):
    bad = rng.random((40, 44)) < 0.05
    frame = np.where(bad, 65535, 1).astype(np.uint16)
    framing = plan_framing(bad.shape, (16, 16), binning=by, beam_px=(20, 21), orientation=way)
    found = framing.of_counts(frame)
    np.testing.assert_array_equal(framing.of_mask(bad), found == np.iinfo(found.dtype).max)


# What is told of it


def test_the_objects_pixel_grows_as_the_detector_is_cut_and_not_as_it_is_binned():
    assert plan_framing((64, 64), (16, 16)).object_pixel_scale == 4
    assert plan_framing((64, 64), (16, 16), binning=2).object_pixel_scale == 2
    assert plan_framing((64, 64), (16, 16), binning=4).object_pixel_scale == 1


def test_a_framing_is_told_in_plain_values():
    framing = Framing((40, 50), (4, 9), (32, 32), 2, Orientation.QUARTER_TURN_LEFT, Orientation.TRANSPOSED)
    assert framing.report() == {
        "detector_shape": [40, 50], "crop_corner": [4, 9], "crop": [32, 32], "bin": 2,
        "orientation": "rotate90", "positions_axes": "x,y",
    }  # fmt: skip
