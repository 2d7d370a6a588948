import numpy as np
import pytest

from model.scans import open_scan
from training.datasets.loaders import labelled_from_scan
from training.datasets.splits import (
    SPLIT_NAMES,
    layout_of_scan,
    object_pixels,
    split_layout,
    split_set,
)
from training.datasets.usaf import UsafRecipe, usaf_set


@pytest.fixture(scope="module")
def data():
    return usaf_set("usaf", UsafRecipe())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("rows", (2690, 299, 732)), ("corner", (3377, 200, 144)), ("disjoint", (2219, 328, 732))],
)
def test_the_splits_have_the_published_sizes(data, name, sizes):
    assert tuple(map(len, split_set(data, name))) == sizes


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_no_frame_is_in_two_parts(data, name):
    frames = np.concatenate(split_set(data, name))
    assert len(np.unique(frames)) == len(frames)


def test_the_papers_test_frames_are_the_last_twelve_of_61_lines(data):
    assert set(data.raster[split_set(data, "rows").test, 0]) == set(range(49, 61))


def test_the_released_codes_test_frames_are_the_lower_right_corner(data):
    test = data.raster[split_set(data, "corner").test]
    assert test.min() == 49
    assert len(test) == 12 * 12


def test_parts_of_the_disjoint_split_share_no_object_pixel(data):
    parts = [object_pixels(data, part) for part in split_set(data, "disjoint")]
    assert max(sum(part.astype(int) for part in parts).ravel()) == 1


@pytest.mark.parametrize("name", ["rows", "corner"])
def test_the_published_splits_leak(data, name):
    split = split_set(data, name)
    shared = object_pixels(data, split.train) & object_pixels(data, split.test)
    assert shared.sum() > 5000


def test_the_seed_of_the_held_out_frames_leaves_the_test_frames_alone(data):
    one, other = split_set(data, "rows", 1), split_set(data, "rows", 2)
    np.testing.assert_array_equal(one.test, other.test)
    assert set(one.validation) != set(other.validation)


@pytest.fixture(scope="module")
def turned(turned_scan):
    """Layout and labelled set of a scan file whose few lines are turned."""
    with open_scan(turned_scan) as scan:
        return layout_of_scan(scan), labelled_from_scan(scan)


def test_a_turned_scan_of_few_lines_is_parted_within_its_lines(turned):
    layout, _ = turned
    split = split_layout(layout, "disjoint")
    parts = [object_pixels(layout, part) for part in split]
    assert max(sum(part.astype(int) for part in parts).ravel()) == 1
    assert set(layout.raster[split.test, 1]) == set(range(32, 40))
    assert set(layout.raster[split.train, 0]) == set(range(5))


@pytest.mark.parametrize("name", ["rows", "disjoint"])
def test_a_scan_file_has_the_same_parts_for_labels_and_for_all_others(turned, name):
    layout, labelled = turned
    for part, same in zip(split_layout(layout, name), split_set(labelled, name), strict=True):
        np.testing.assert_array_equal(part, same)


def test_the_last_rows_of_a_turned_scan_judge(turned):
    layout, _ = turned
    assert set(layout.raster[split_layout(layout, "rows").test, 0]) == {4}


def test_a_scan_of_few_lines_cannot_be_split_by_area():
    with pytest.raises(ValueError, match="too few for the split 'disjoint'"):
        split_set(usaf_set("x", UsafRecipe(lines=6)), "disjoint")
