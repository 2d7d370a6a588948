import numpy as np
import pytest
import torch

from model.scans import ScanFileError, open_scan, write_scan
from training.datasets.splits import layout_of_scan, split_layout
from training.unlabelled.measured import NeighbourBatches, hold_out, parts_of, read_measured

TILE = (16, 16)


def batches(scan, seeds=(1, 0)):
    return NeighbourBatches(scan, np.arange(40), 4, seeds, range(10), 65535.0)


def test_a_batch_pairs_each_frame_with_a_neighbour_and_knows_the_offset(measured):
    scan, frames = measured.scan, measured.scan.frames(np.arange(96), 65535.0)
    counts, offsets, truth = batches(scan).make(3)
    places = [int(torch.nonzero((frames == frame).all(dim=(1, 2, 3)))[0]) for frame in counts]
    here, there = scan.centres_px[places[:4]], scan.centres_px[places[4:]]
    np.testing.assert_allclose(offsets.numpy(), there - here, atol=1e-4)
    assert (np.hypot(*offsets.numpy().T) <= 3 * measured.step_px).all()
    assert not set(places) - set(range(40))
    assert truth is None


def test_batches_depend_on_seed_and_number_alone(measured):
    one, same, other = (batches(measured.scan, seeds) for seeds in ((1, 0), (1, 0), (1, 1)))
    assert torch.equal(one.make(5).counts, list(same)[5].counts)
    assert not torch.equal(one.make(5).counts, one.make(6).counts)
    assert not torch.equal(one.make(5).counts, other.make(5).counts)


def test_held_out_frames_share_no_pixel_of_the_object_with_those_that_teach(measured):
    centres = measured.scan.centres_px
    train, held_out = hold_out(centres, TILE)
    apart = np.abs(centres[train][:, None] - centres[held_out][None])
    assert (apart.max(axis=-1) >= 16).all()
    assert len(train) > len(held_out) > 0
    assert not set(train) & set(held_out)


def test_a_scan_too_small_for_two_parts_is_refused(measured):
    with pytest.raises(ValueError, match="smaller --tile"):
        hold_out(measured.scan.centres_px, (128, 128))


def test_a_split_keeps_the_test_part_that_every_method_is_judged_on(turned_scan):
    with open_scan(turned_scan) as file:
        split = split_layout(layout_of_scan(file), "disjoint")
    train, held_out = parts_of(read_measured(turned_scan), "disjoint", TILE)
    np.testing.assert_array_equal(train, split.train)
    np.testing.assert_array_equal(held_out, split.validation)
    assert not set(split.test) & {*train, *held_out}


def test_without_a_split_no_frame_is_kept_for_a_test(turned_scan):
    scan = read_measured(turned_scan)
    assert np.argmax(scan.centres_px[:, 1]) in parts_of(scan, None, TILE).held_out


def test_masked_pixels_hold_the_count_that_says_invalid(measured):
    counts = measured.scan.frames(np.array([0, 5]), 65535.0)
    assert (counts[:, 0, measured.scan.mask] == 65535).all()
    assert counts[:, 0, ~measured.scan.mask].max() < 65535
    assert (measured.scan.frames(np.array([0]), None)[:, 0, measured.scan.mask] == 0).all()


def test_the_reference_is_cut_where_the_frame_was(measured):
    tiles = measured.scan.reference_tiles(np.array([7]), TILE)[0, 0]
    y, x = (int(corner) + 8 for corner in measured.scan.reference.positions_px[7])
    np.testing.assert_array_equal(tiles, measured.scan.reference.object[y : y + 16, x : x + 16])


def test_beyond_the_reference_nothing_is_known(measured):
    last = len(measured.scan.counts) - 1
    assert (measured.scan.reference_tiles(np.array([last]), (32, 32))[0, 0, -1] != 0).any()
    far = measured.scan.reference_tiles(np.array([last]), (64, 64))[0, 0]
    assert (far[-8:] == 0).all()


def test_a_scan_without_a_probe_cannot_teach(tmp_path):
    write_scan(tmp_path / "bare.cxi", np.zeros((1, 32, 32), np.uint16), np.zeros((1, 2)))
    with pytest.raises(ScanFileError, match="no probe"):
        read_measured(tmp_path / "bare.cxi")
