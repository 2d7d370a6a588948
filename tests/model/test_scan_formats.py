"""Other programs' scan files: the same scan, written as ptypy and pty-chi write it, reads back as itself."""

from typing import NamedTuple

import h5py
import numpy as np
import pytest

from model.judge import forward_residual
from model.optics import far_field
from model.scans import ScanFileError, open_scan, write_scan

PIXEL_M = 2e-8
ENERGY_KEV, DETECTOR_PIXEL_M = 8.8, 75e-6
WAVELENGTH_M = 1.2398419843e-9 / ENERGY_KEV
DISTANCE_M = PIXEL_M * 32 * DETECTOR_PIXEL_M / WAVELENGTH_M
OBJECT_SHAPE = (70, 76)  # room for mistaken positions too


class Scene(NamedTuple):
    """A scan of 6 by 6 positions: 3 pixels apart down, 4 across."""

    object: np.ndarray
    probe: np.ndarray
    corners: np.ndarray
    counts: np.ndarray

    @property
    def positions_m(self):
        """Probe centres y, x from the middle of the object, as its own pixels count."""
        return (self.corners + 16 - np.array(OBJECT_SHAPE) / 2) * PIXEL_M


@pytest.fixture(scope="module")
def scene(probe):
    rng = np.random.default_rng(3)
    phase = np.cumsum(np.cumsum(rng.normal(size=OBJECT_SHAPE), axis=0), axis=1) / 40
    whole = (np.exp(-0.1 * np.abs(phase)) * np.exp(1j * phase)).astype(np.complex64)
    corners = np.stack(np.mgrid[16:34:3, 21:45:4], axis=-1).reshape(-1, 2)
    tiles = np.stack([whole[y : y + 32, x : x + 32] for y, x in corners])
    return Scene(whole, probe, corners, far_field(probe, tiles))


def misfit(scan, scene):
    """Residual of the true object under the file's frames and positions, about the true first corner."""
    steps = (scan.positions_m - scan.positions_m[0]) / PIXEL_M
    return forward_residual(
        scene.probe, scene.object, scan.frames().astype(np.float32), scene.corners[0] + steps
    )


def write_ptyd(path, scene, chunks=(20, 16), center=(16.0, 16.0), linked=False):
    """Write what ptypy's PtyScan saves with save="append", or with save="link"."""
    with h5py.File(path, "w") as file:
        file.attrs["h5rw_version"] = "0.1"
        _tell(file.create_group("info"), "energy", 99.0)
        meta = file.create_group("meta")
        meta.attrs["type"] = "dict"
        told = {"energy": ENERGY_KEV, "distance": DISTANCE_M, "psize": [DETECTOR_PIXEL_M] * 2}
        for name, value in {**told, "center": center, "shape": [32, 32], "label": None}.items():
            _tell(meta, name, value)
        file.create_group("chunks").attrs["type"] = "dict"
        first = 0
        for number, count in enumerate(chunks):
            part = path.with_name(f"{path.name}.part{number:03d}")
            if linked:
                file[f"chunks/{number}"] = h5py.ExternalLink(part.name, "/")
                with h5py.File(part, "w") as apart:
                    _write_chunk(apart, scene, slice(first, first + count))
            else:
                _write_chunk(file.create_group(f"chunks/{number}"), scene, slice(first, first + count))
            first += count
    return path


def _write_chunk(group, scene, which):
    counts = scene.counts[which].astype(np.float64)
    weights = np.ones(counts.shape, bool)
    weights[:, 3, 5] = False
    arrays = {
        "data": counts,
        "positions": scene.positions_m[which],
        "weights": weights,
        "indices": np.arange(36)[which],
    }
    for name, array in arrays.items():
        group.create_dataset(name, data=array, compression="gzip").attrs["type"] = "array"


def _tell(group, name, value):
    kind = "None" if value is None else "scalar" if np.isscalar(value) else "array"
    stored = group.create_dataset(name, data=np.zeros(1) if value is None else np.asarray(value))
    stored.attrs["type"] = kind


def write_pair(folder, scene, prefix="ptychodus_", indexes=None):
    """Write pty-chi's pair; its frame i has the position with index i."""
    indexes = np.arange(36) if indexes is None else indexes
    dp, para = folder / f"{prefix}dp.hdf5", folder / f"{prefix}para.hdf5"
    with h5py.File(dp, "w") as file:
        file["dp"] = scene.counts
    with h5py.File(para, "w") as file:
        file.attrs["probe_energy_eV"] = 1e3 * ENERGY_KEV
        file.attrs["detector_object_distance_m"] = DISTANCE_M
        file["probe"] = scene.probe[None]
        file["probe_position_indexes"] = indexes
        file["probe_position_y_m"] = scene.positions_m[indexes, 0]
        file["probe_position_x_m"] = scene.positions_m[indexes, 1]
        file["object"] = scene.object[None]
        size = {"pixel_height_m": PIXEL_M, "pixel_width_m": PIXEL_M}
        file["object"].attrs.update({**size, "center_x_m": 0, "center_y_m": 0})
    return dp, para


def edit(path, *names, **values):
    """Delete datasets of a file, then write others."""
    with h5py.File(path, "a") as file:
        for name in names:
            del file[name]
        for name, value in values.items():
            file[name] = value


@pytest.mark.parametrize("linked", [False, True], ids=["one file", "linked parts"])
def test_a_ptyd_file_says_where_its_frames_were_taken(tmp_path, scene, linked):
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", scene, linked=linked)) as scan:
        assert (len(scan), scan.frame_shape, scan.dtype) == (36, (32, 32), np.float32)
        assert np.allclose(scan.positions_m, scene.positions_m)
        assert misfit(scan, scene) < 1e-4
        assert scan.reference() is None


def test_a_misfit_tells_swapped_or_mirrored_positions(tmp_path, scene):
    for wrong in (scene.corners[:, ::-1], -scene.corners):
        swapped = scene._replace(corners=wrong)
        path = write_ptyd(tmp_path / "scan.ptyd", swapped)
        with open_scan(path) as scan:
            assert misfit(scan, scene) > 0.1


def test_a_ptyd_file_tells_geometry_in_its_own_units(tmp_path, scene):
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", scene)) as scan:
        assert scan.wavelength_m == pytest.approx(WAVELENGTH_M)
        assert scan.distance_m == pytest.approx(DISTANCE_M)
        assert scan.detector_pixel_m == DETECTOR_PIXEL_M
        assert scan.object_pixel_m == pytest.approx(PIXEL_M)


def test_a_ptyd_value_that_ptypy_was_not_told_is_not_zero(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene)
    with h5py.File(path, "a") as file:
        del file["meta/energy"], file["meta/distance"]
        _tell(file["meta"], "energy", None)
    with open_scan(path) as scan:
        assert (scan.wavelength_m, scan.distance_m, scan.object_pixel_m) == (None, None, None)


def test_weights_of_a_ptyd_file_become_a_mask(tmp_path, scene):
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", scene)) as scan:
        assert np.argwhere(scan.mask).tolist() == [[3, 5]]


@pytest.mark.parametrize(
    "which",
    [slice(0, 5), slice(18, 23), slice(20, 36), slice(33, 99), slice(7, 7), slice(1, 30, 9), slice(-2, None)],
    ids=str,
)
def test_a_slice_of_a_ptyd_file_may_span_chunks(tmp_path, scene, which):
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", scene, chunks=(3, 17, 5, 11))) as scan:
        assert np.array_equal(scan.frames(which), scene.counts[which])


def test_ten_chunks_keep_the_order_of_their_numbers(tmp_path, scene):
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", scene, chunks=(3,) * 12)) as scan:
        assert np.array_equal(scan.frames(), scene.counts)


def test_a_zero_frequency_that_a_flip_left_one_pixel_off_comes_back_to_the_centre(tmp_path, scene):
    off = scene._replace(counts=np.roll(scene.counts, (-1, -1), axis=(1, 2)))
    with open_scan(write_ptyd(tmp_path / "scan.ptyd", off, center=(15.0, 15.0))) as scan:
        assert np.array_equal(scan.frames(slice(18, 22)), scene.counts[18:22])
        assert np.argwhere(scan.mask).tolist() == [[4, 6]]
        assert misfit(scan, scene) < 1e-4


def test_a_ptyd_file_that_was_not_cropped_about_its_centre_is_told(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene, center=(12.4, 16.0))
    with pytest.raises(ScanFileError, match="meta/center"):
        open_scan(path)


def test_signed_counts_are_given_as_a_detector_sends_them(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene, chunks=(36,))
    counts = np.rint(scene.counts).astype(np.int32)
    counts[:, 0, 0] = -1
    edit(path, "chunks/0/data", **{"chunks/0/data": counts})
    with open_scan(path) as scan:
        assert scan.dtype == scan.frames().dtype == np.uint32
        assert np.array_equal(scan.frames(), np.maximum(counts, 0))


def test_a_linked_part_that_is_gone_is_told(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene, linked=True)
    (tmp_path / "scan.ptyd.part001").unlink()
    with pytest.raises(ScanFileError, match="chunk 1 is in a file of its own"):
        open_scan(path)


@pytest.mark.parametrize("name", ["data", "positions"])
def test_a_missing_part_of_a_ptyd_file_is_named(tmp_path, scene, name):
    path = write_ptyd(tmp_path / "scan.ptyd", scene)
    edit(path, f"chunks/1/{name}")
    with pytest.raises(ScanFileError, match=f"/chunks/1/{name} is missing"):
        open_scan(path)


def test_a_ptyd_file_without_frames_is_told(tmp_path, scene):
    with pytest.raises(ScanFileError, match="no frames"):
        open_scan(write_ptyd(tmp_path / "scan.ptyd", scene, chunks=()))


def test_chunks_that_do_not_fit_are_told(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene)
    edit(path, "chunks/1/positions", **{"chunks/1/positions": np.zeros((15, 2))})
    with pytest.raises(ScanFileError, match="do not fit"):
        open_scan(path)
    edit(path, "chunks/1/data", **{"chunks/1/data": np.zeros((16, 8, 8))})
    with pytest.raises(ScanFileError, match="do not fit"):
        open_scan(path)


@pytest.mark.parametrize("given", ["dp", "para"])
@pytest.mark.parametrize("prefix", ["ptychodus_", "data_roi0_Ndp32_", ""])
def test_either_file_of_a_pty_chi_pair_opens_both(tmp_path, scene, given, prefix):
    write_pair(tmp_path, scene, prefix)
    with open_scan(tmp_path / f"{prefix}{given}.hdf5") as scan:
        assert np.array_equal(scan.frames(slice(3, 9)), scene.counts[3:9])
        assert np.allclose(scan.positions_m, scene.positions_m)
        assert misfit(scan, scene) < 1e-4


def test_a_pty_chi_pair_tells_geometry(tmp_path, scene):
    with open_scan(write_pair(tmp_path, scene)[0]) as scan:
        assert scan.wavelength_m == pytest.approx(WAVELENGTH_M)
        assert scan.distance_m == pytest.approx(DISTANCE_M)
        assert scan.object_pixel_m == PIXEL_M


def test_the_object_of_a_pty_chi_pair_makes_its_frames(tmp_path, scene):
    with open_scan(write_pair(tmp_path, scene)[1]) as scan:
        reference = scan.reference()
        assert np.allclose(reference.positions_px, scene.corners)
        residual = forward_residual(reference.probe, reference.object, scan.frames(), reference.positions_px)
    assert residual < 1e-4
    assert reference.object_pixel_m == PIXEL_M


def test_coverage_of_a_pty_chi_pair_is_the_light_that_fell(tmp_path, scene):
    with open_scan(write_pair(tmp_path, scene)[1]) as scan:
        coverage = scan.reference().coverage
    assert coverage.shape == OBJECT_SHAPE
    assert coverage.sum() == pytest.approx(36 * np.square(np.abs(scene.probe)).sum(), rel=1e-4)
    assert coverage[0].max() == 0
    assert np.unravel_index(coverage.argmax(), OBJECT_SHAPE)[0] == pytest.approx(39, abs=6)


def test_tiles_that_reach_beyond_the_object_still_give_a_coverage(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "probe_position_y_m", probe_position_y_m=scene.positions_m[:, 0] + 20 * PIXEL_M)
    with open_scan(para) as scan:
        assert scan.reference().coverage.shape == OBJECT_SHAPE


def test_an_object_off_the_origin_moves_with_its_centre(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "probe_position_x_m", probe_position_x_m=scene.positions_m[:, 1] + 1e-6)
    with h5py.File(para, "a") as file:
        file["object"].attrs["center_x_m"] = 1e-6
    with open_scan(para) as scan:
        assert np.allclose(scan.reference().positions_px, scene.corners)


def test_positions_of_a_pty_chi_pair_belong_to_frames_by_index(tmp_path, scene):
    shuffled = np.random.default_rng(0).permutation(36)
    with open_scan(write_pair(tmp_path, scene, indexes=shuffled)[0]) as scan:
        assert np.allclose(scan.positions_m, scene.positions_m)
        assert misfit(scan, scene) < 1e-4


def test_indexes_that_do_not_number_the_frames_leave_the_order(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "probe_position_indexes", probe_position_indexes=1000 - 7 * np.arange(36))
    with open_scan(para) as scan:
        assert np.allclose(scan.positions_m, scene.positions_m)


def test_the_dominant_mode_of_a_probe_comes_first(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "probe", probe=scene.probe[::-1])
    with open_scan(para) as scan:
        assert np.array_equal(scan.reference().probe, scene.probe)


def test_a_lone_file_of_a_pair_is_told(tmp_path, scene):
    dp, para = write_pair(tmp_path, scene)
    para.rename(tmp_path / "elsewhere.hdf5")
    with pytest.raises(ScanFileError, match=r"ptychodus_para.hdf5, is not beside it"):
        open_scan(dp)
    with pytest.raises(ScanFileError, match="must end in dp and para"):
        open_scan(tmp_path / "elsewhere.hdf5")


def test_a_damaged_other_file_is_told(tmp_path, scene):
    dp, para = write_pair(tmp_path, scene)
    para.write_bytes(b"damaged")
    with pytest.raises(ScanFileError, match=r"ptychodus_para.hdf5: not an HDF5 file"):
        open_scan(dp)


@pytest.mark.parametrize("name", ["probe_position_x_m", "probe_position_y_m"])
def test_missing_positions_of_a_pair_are_named(tmp_path, scene, name):
    dp, para = write_pair(tmp_path, scene)
    edit(para, name)
    with pytest.raises(ScanFileError, match=f"{name} is missing"):
        open_scan(dp)


def test_more_positions_than_patterns_are_told(tmp_path, scene):
    dp, _ = write_pair(tmp_path, scene)
    edit(dp, "dp", dp=scene.counts[:30])
    with pytest.raises(ScanFileError, match="do not fit"):
        open_scan(dp)


@pytest.mark.parametrize("height_m", [None, 1e-8])
def test_an_object_pixel_that_is_not_told_or_not_square_is_told(tmp_path, scene, height_m):
    _, para = write_pair(tmp_path, scene)
    with h5py.File(para, "a") as file:
        del file["object"].attrs["pixel_height_m"]
        if height_m is not None:
            file["object"].attrs["pixel_height_m"] = height_m
    with pytest.raises(ScanFileError, match="pixel_height_m"):
        open_scan(para)


def test_a_pair_without_an_object_has_no_reference(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "object")
    with open_scan(para) as scan:
        assert (scan.reference(), scan.object_pixel_m) == (None, None)


def test_an_object_without_its_probe_is_told(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    edit(para, "probe")
    with open_scan(para) as scan, pytest.raises(ScanFileError, match="/probe is missing"):
        scan.reference()


def test_an_object_of_several_slices_is_no_reference(tmp_path, scene):
    _, para = write_pair(tmp_path, scene)
    with h5py.File(para, "a") as file:
        attributes = dict(file["object"].attrs)
        del file["object"]
        file["object"] = np.stack([scene.object, scene.object])
        file["object"].attrs.update(attributes)
    with open_scan(para) as scan, pytest.raises(ScanFileError, match="several slices"):
        scan.reference()


def test_a_closed_scan_of_any_format_reads_no_more(tmp_path, scene):
    write_scan(tmp_path / "scan.cxi", scene.counts, scene.positions_m)
    for path in (write_ptyd(tmp_path / "a.ptyd", scene), *write_pair(tmp_path, scene), tmp_path / "scan.cxi"):
        scan = open_scan(path)
        scan.close()
        with pytest.raises(ScanFileError):
            scan.frames(slice(0, 1))


def test_a_format_is_told_by_what_the_file_holds_and_not_by_its_name(tmp_path, scene):
    path = write_ptyd(tmp_path / "scan.ptyd", scene).rename(tmp_path / "scan.cxi")
    with open_scan(path) as scan:
        assert len(scan) == 36


def test_numpy_files_hold_no_positions_to_replay(tmp_path):
    np.savez(tmp_path / "20191008_39_diff.npz", np.zeros((2, 2, 8, 8)))
    with pytest.raises(ScanFileError, match="without positions"):
        open_scan(tmp_path / "20191008_39_diff.npz")
