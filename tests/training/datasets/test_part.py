import numpy as np
import pytest

from model.scans import open_scan
from training.datasets.loaders import labelled_from_scan
from training.datasets.part import counts_of, restricted
from training.datasets.splits import layout_of_scan, split_layout


@pytest.fixture(scope="module")
def scan(turned_scan):
    with open_scan(turned_scan) as file:
        yield file


@pytest.fixture(scope="module")
def test_frames(scan):
    return split_layout(layout_of_scan(scan), "disjoint").test


def test_frames_come_in_the_order_they_are_asked_for(scan):
    which = np.array([7, 3, 150])
    np.testing.assert_array_equal(counts_of(scan, which), scan.frames()[which])
    assert counts_of(scan, which).dtype == np.uint16


def test_no_frames_are_no_counts(scan):
    assert counts_of(scan, np.array([], int)).shape == (0, 32, 32)


def test_a_part_s_reference_is_what_its_frames_see(scan, test_frames):
    whole, part = scan.reference(), restricted(scan.reference(), test_frames)
    for n in (0, -1):
        there, here = (
            np.rint(corner).astype(int)
            for corner in (whole.positions_px[test_frames[n]], part.positions_px[n])
        )
        for image, cropped in (
            (whole.object, part.object),
            (whole.others["object_noisy"], part.others["object_noisy"]),
        ):
            np.testing.assert_array_equal(
                cropped[here[0] : here[0] + 32, here[1] : here[1] + 32],
                image[there[0] : there[0] + 32, there[1] : there[1] + 32],
            )
    assert part.object.size < 0.5 * whole.object.size


def test_only_a_part_s_own_light_covers_it(scan, test_frames):
    reference = scan.reference()
    one, all_of_them = (restricted(reference, frames) for frames in (test_frames[:1], test_frames))
    power = np.square(np.abs(reference.probe)).sum()
    assert one.coverage.sum() == pytest.approx(power, rel=1e-5)
    assert all_of_them.coverage.sum() == pytest.approx(len(test_frames) * power, rel=1e-5)


def test_the_whole_scan_keeps_the_reference_as_it_is(scan):
    reference = scan.reference()
    assert restricted(reference, np.arange(len(scan))) is reference


def test_labels_of_a_part_are_those_of_the_whole(scan, test_frames):
    whole, part = labelled_from_scan(scan, 20), labelled_from_scan(scan, 20, test_frames)
    np.testing.assert_array_equal(part.phase_rad, whole.phase_rad[test_frames])
    np.testing.assert_array_equal(part.counts, whole.counts[test_frames])
    np.testing.assert_array_equal(part.raster, whole.raster[test_frames])
