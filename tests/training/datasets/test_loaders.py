"""Labelled sets: tiles belong to their frames, lines are found, published files are prepared as published."""

import numpy as np
import pytest
from skimage.transform import resize

from model.optics import far_field, tile_residual
from model.scans import Reference, ScanFileError, open_scan, write_scan
from training.datasets.labelled import cut_tiles
from training.datasets.loaders import labelled_from_scan, load_ptychonn
from training.datasets.raster import find_raster
from training.datasets.splits import split_set

PIXEL_M = 2e-8


@pytest.fixture(scope="module")
def truth(probe):
    """A smooth object with the corners, in pixels and their fractions, of 6 by 6 frames on it."""
    rng = np.random.default_rng(3)
    phase = np.cumsum(np.cumsum(rng.normal(size=(52, 60)), axis=0), axis=1) / 40
    whole = (np.exp(-0.1 * np.abs(phase)) * np.exp(1j * phase)).astype(np.complex64)
    corners = np.stack(np.mgrid[1:19:3, 2:26:4], axis=-1).reshape(-1, 2)
    positions_px = corners + rng.uniform(-0.4, 0.4, corners.shape)
    return Reference(whole, probe, np.ones((52, 60), np.float32), positions_px, PIXEL_M)


def write(path, truth, mask=None):
    """Write the frames of the whole-pixel tiles, those beyond the object's edge with what is there."""
    padded = np.pad(truth.object, 8, constant_values=1)
    corners = np.rint(truth.positions_px).astype(int) + 8
    counts = far_field(truth.probe, cut_tiles(padded, corners, 32))
    write_scan(path, counts, (truth.positions_px + 16) * PIXEL_M, mask=mask, reference=truth)
    return path


def load(path, edge=None):
    with open_scan(path) as scan:
        return labelled_from_scan(scan, edge)


def residuals(labelled):
    tiles = labelled.units.transmission(labelled.amplitude, labelled.phase_rad)
    return [tile_residual(labelled.probe, *pair) for pair in zip(tiles, labelled.counts, strict=True)]


def test_each_frame_of_a_scan_has_the_tile_that_made_it(tmp_path, truth):
    labelled = load(write(tmp_path / "scan.cxi", truth))
    assert (len(labelled), labelled.frame_shape, labelled.tile_shape) == (36, (32, 32), (32, 32))
    assert np.array_equal(labelled.corners_px, np.rint(truth.positions_px))
    assert max(residuals(labelled)) < 1e-4


def test_a_smaller_tile_is_the_centre_of_the_frame_s_own(tmp_path, truth):
    path = write(tmp_path / "scan.cxi", truth)
    whole, centre = load(path), load(path, 20)
    assert np.array_equal(centre.amplitude, whole.amplitude[:, 6:26, 6:26])
    assert np.array_equal(centre.phase_rad, whole.phase_rad[:, 6:26, 6:26])
    assert np.array_equal(centre.corners_px, whole.corners_px + 6)


def test_the_truth_is_what_the_tiles_were_cut_from(tmp_path, truth):
    labelled = load(write(tmp_path / "scan.cxi", truth))
    assert np.array_equal(cut_tiles(labelled.truth_phase_rad, labelled.corners_px, 32), labelled.phase_rad)
    assert np.allclose(labelled.truth_amplitude, np.abs(truth.object))
    assert np.array_equal(labelled.probe, truth.probe)
    assert labelled.object_pixel_m == PIXEL_M


def test_frames_that_look_beyond_the_object_have_no_label(tmp_path, truth):
    positions_px = truth.positions_px - [3, 0]
    beyond = Reference(truth.object, truth.probe, truth.coverage, positions_px, PIXEL_M)
    labelled = load(write(tmp_path / "scan.cxi", beyond))
    assert len(labelled) == 30
    assert np.array_equal(np.unique(labelled.raster[:, 0]), np.arange(1, 6))
    assert max(residuals(labelled)) < 1e-4


def test_masked_pixels_count_nothing(tmp_path, truth):
    mask = np.zeros((32, 32), bool)
    mask[16, 17] = True
    labelled = load(write(tmp_path / "scan.cxi", truth, mask))
    assert labelled.counts[:, 16, 17].max() == 0
    assert labelled.counts[:, 16, 16].min() > 0


def test_a_scan_without_a_reference_has_no_labels(tmp_path):
    write_scan(tmp_path / "scan.cxi", np.ones((4, 32, 32), np.uint16), np.zeros((4, 2)))
    with pytest.raises(ScanFileError, match="no labels"):
        load(tmp_path / "scan.cxi")


def test_a_reference_of_other_frames_is_told(tmp_path, truth):
    write_scan(tmp_path / "scan.cxi", np.ones((4, 32, 32), np.uint16), np.zeros((4, 2)), reference=truth)
    with pytest.raises(ScanFileError, match="4 frames, but 36 positions"):
        load(tmp_path / "scan.cxi")


def test_a_tile_larger_than_the_object_is_told(tmp_path, truth):
    with pytest.raises(ScanFileError, match="no tile of 64 pixels"):
        load(write(tmp_path / "scan.cxi", truth), 64)


@pytest.mark.parametrize("way", ["to and fro", "always the same way"])
@pytest.mark.parametrize("fast", [0, 1])
def test_lines_and_places_come_back_from_positions(way, fast):
    raster = np.indices((9, 13)).reshape(2, -1).T
    places = raster[:, 1].copy()
    if way == "to and fro":
        places = np.where(raster[:, 0] % 2, 12 - places, places)
    jitter = np.random.default_rng(0).uniform(-1, 1, raster.shape)
    positions_px = np.stack([raster[:, 0], places], axis=1) * [8, 5] + jitter
    found = find_raster((positions_px if fast == 1 else positions_px[:, ::-1]) * PIXEL_M)
    assert np.array_equal(found.places, np.stack([raster[:, 0], places], axis=1))


def test_a_lost_line_does_not_join_the_others():
    raster = np.indices((10, 12)).reshape(2, -1).T
    kept = raster[:, 0] != 4
    found = find_raster(raster[kept] * 1e-7).places
    assert np.array_equal(np.unique(found[:, 0]), np.arange(9))
    assert np.array_equal(found[:, 1], raster[kept, 1])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_frames_in_one_place_are_one_line(count):
    assert np.array_equal(find_raster(np.zeros((count, 2))).places, [[0, place] for place in range(count)])


def ptychonn_files(folder, lines=4, places=5, size=64, tile=16):
    """Write files of PtychoNN's layout; return their paths and what they hold."""
    rng = np.random.default_rng(2)
    spots = np.exp(-np.square(np.indices((size, size)) - size / 2).sum(0) / 60)
    frames = rng.poisson(200 * spots + 1, (lines, places, size, size)).astype(np.uint16)
    labels = rng.uniform(0.04, 0.11, (lines, places, tile, tile)) * np.exp(
        1j * rng.uniform(-1.56, 3.13, (lines, places, tile, tile))
    )
    diff, label_file = folder / "20191008_39_diff.npz", folder / "20191008_39_amp_pha_10nm_full.npy"
    np.savez_compressed(diff, frames)
    np.save(label_file, labels.astype(np.complex64))
    return diff, label_file, frames, labels


def test_ptychonn_s_frames_are_cropped_and_resized_as_published(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path)
    labelled = load_ptychonn(diff, label_file, edge=16)
    published = resize(
        frames[2, 3, 8:-8, 8:-8].astype(float), (16, 16), preserve_range=True, anti_aliasing=True
    )
    published[published < 3] = 0
    assert labelled.counts.shape == (20, 16, 16)
    assert np.allclose(labelled.counts[2 * 5 + 3], published, atol=1e-3)
    assert (labelled.counts == 0).any()


def test_ptychonn_s_counts_times_photons_are_those_of_the_camera(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path)
    labelled = load_ptychonn(diff, label_file, edge=16)
    assert labelled.photons == 9
    stored = frames[..., 8:-8, 8:-8]
    bright = stored[stored > 6].sum()
    assert labelled.photons * labelled.counts.sum() == pytest.approx(bright, rel=0.1)


def test_ptychonn_s_labels_are_amplitude_and_phase_of_each_frame(tmp_path):
    diff, label_file, _, labels = ptychonn_files(tmp_path)
    labelled = load_ptychonn(diff, label_file, edge=16)
    assert np.allclose(labelled.amplitude.reshape(labels.shape), np.abs(labels), atol=1e-6)
    assert np.allclose(labelled.phase_rad.reshape(labels.shape), np.angle(labels), atol=1e-5)
    assert labelled.object_pixel_m == 10e-9


def test_ptychonn_s_raster_steps_thirty_nanometres(tmp_path):
    diff, label_file, *_ = ptychonn_files(tmp_path)
    labelled = load_ptychonn(diff, label_file, edge=16)
    assert labelled.raster[[0, 4, 5]].tolist() == [[0, 0], [0, 4], [1, 0]]
    assert labelled.corners_px[[0, 4, 5]].tolist() == [[0, 0], [0, 12], [3, 0]]


def test_only_the_first_lines_are_loaded_when_asked(tmp_path):
    diff, label_file, *_ = ptychonn_files(tmp_path)
    all_lines, two = (load_ptychonn(diff, label_file, edge=16, lines=lines) for lines in (161, 2))
    assert len(two) == 10
    assert np.array_equal(two.counts, all_lines.counts[:10])


def test_ptychonn_s_first_hundred_lines_teach_and_the_others_judge(tmp_path):
    files = ptychonn_files(tmp_path, lines=103, places=2)
    data = load_ptychonn(*files[:2], edge=16)
    split = split_set(data, "rows")
    assert set(data.raster[split.test, 0]) == {100, 101, 102}
    assert len(split.train) + len(split.validation) == 200


def test_frames_that_were_reduced_before_are_taken_as_they_are(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path, size=16)
    labelled = load_ptychonn(diff, label_file, edge=16)
    kept = np.where(frames < 3, 0, frames)
    assert np.array_equal(labelled.counts.reshape(frames.shape), kept)
    assert labelled.photons == 1


def test_a_pickled_npz_is_refused(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path)
    np.savez(diff, np.array([*frames, None], dtype=object))
    with pytest.raises(ScanFileError, match="plain numbers"):
        load_ptychonn(diff, label_file)


@pytest.mark.parametrize("damage", [b"", b"PK", b"no array"])
def test_a_damaged_numpy_file_is_told(tmp_path, damage):
    diff, label_file, *_ = ptychonn_files(tmp_path)
    diff.write_bytes(damage)
    with pytest.raises(ScanFileError, match="damaged"):
        load_ptychonn(diff, label_file)


def test_a_truncated_or_altered_npz_is_told(tmp_path):
    diff, label_file, *_ = ptychonn_files(tmp_path)
    whole = bytearray(diff.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    for content in (whole, whole[:-50]):
        diff.write_bytes(bytes(content))
        with pytest.raises(ScanFileError, match="damaged"):
            load_ptychonn(diff, label_file)


def test_a_missing_ptychonn_file_is_told(tmp_path):
    diff, label_file, *_ = ptychonn_files(tmp_path)
    label_file.unlink()
    with pytest.raises(ScanFileError, match=r"full\.npy: no such file"):
        load_ptychonn(diff, label_file)


def test_an_npz_without_arr_0_is_told(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path)
    np.savez(diff, frames=frames)
    with pytest.raises(ScanFileError, match="arr_0"):
        load_ptychonn(diff, label_file)


def test_labels_of_another_scan_are_told(tmp_path):
    diff, label_file, _, labels = ptychonn_files(tmp_path)
    np.save(label_file, labels[:, :3])
    with pytest.raises(ScanFileError, match="do not fit"):
        load_ptychonn(diff, label_file)


def test_labels_that_are_not_complex_are_told(tmp_path):
    diff, label_file, _, labels = ptychonn_files(tmp_path)
    np.save(label_file, np.abs(labels))
    with pytest.raises(ScanFileError, match="complex"):
        load_ptychonn(diff, label_file)


def test_frames_in_one_stack_are_told(tmp_path):
    diff, label_file, frames, _ = ptychonn_files(tmp_path)
    np.savez(diff, frames.reshape(-1, 64, 64))
    with pytest.raises(ScanFileError, match="lines, places"):
        load_ptychonn(diff, label_file)
