"""Pixel masks as facilities keep them."""

import h5py
import numpy as np
import pytest
import tifffile

from service.errors import ConfigError
from service.mask_file import read_mask

FLAGS = np.array([[0, 1, 0], [2, 0, 1 << 31]], np.uint32)  # a gap, a dead pixel, a virtual one


def save(path, flags=FLAGS):
    if path.suffix == ".npy":
        np.save(path, flags)
    else:
        tifffile.imwrite(path, flags)
    return path


def save_hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return path


@pytest.mark.parametrize("name", ["mask.npy", "mask.tif", "MASK.TIFF"])
def test_every_pixel_that_is_flagged_is_bad(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".TIFF":
        tifffile.imwrite(path, FLAGS)
    else:
        save(path)
    np.testing.assert_array_equal(read_mask(path), FLAGS != 0)


@pytest.mark.parametrize(
    "place", ["entry__instrument__detector__pixel_mask", "entry_1__instrument_1__detector_1__mask", "mine"]
)
def test_a_mask_in_hdf5_is_found_where_detectors_keep_it_or_as_the_only_image(tmp_path, place):
    path = save_hdf5(tmp_path / "mask.h5", **{place: FLAGS, "counts": np.zeros((2, 2, 2)), "number": 5})
    np.testing.assert_array_equal(read_mask(path), FLAGS != 0)


def test_a_mask_of_a_scan_file_is_that_of_its_detector(tmp_path):
    places = {"entry_1__instrument_1__detector_1__mask": FLAGS, "entry_1__probe": np.ones((2, 3))}
    np.testing.assert_array_equal(read_mask(save_hdf5(tmp_path / "scan.cxi", **places)), FLAGS != 0)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda folder: folder / "absent.npy", "No such file"),
        (lambda folder: folder / "mask.png", "is none of .npy, .tif"),
        (lambda folder: save(folder / "mask.npy", FLAGS[0]), r"holds uint32 \(3,\): one image"),
        (lambda folder: save(folder / "mask.npy", FLAGS * 0.5), "holds float64"),
        (lambda folder: save(folder / "mask.npy", np.array([None, "x"])), "cannot be read: Object arrays"),
        (lambda folder: save_hdf5(folder / "m.h5", a=FLAGS, b=FLAGS), "several: a, b"),
        (lambda folder: save_hdf5(folder / "m.h5", number=1), "it has no image"),
    ],
)
def test_a_file_that_holds_no_mask_is_refused_in_one_line(tmp_path, make, line):
    with pytest.raises(ConfigError, match=line) as caught:
        read_mask(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mask.npy", "mask.tif", "mask.h5"])
def test_a_damaged_file_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mask(path)
