"""Scan files: what is read back, and what an operator is told about a file that is no scan."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from model.scans import DATA, DETECTOR, SOURCE, TRANSLATION, Reference, ScanFileError, open_scan, write_scan

STAR = Path(__file__).parents[2] / "service" / "data" / "siemens_star_aps.cxi"
FRAMES = np.random.default_rng(0).poisson(4, (6, 8, 10)).astype(np.uint16)
POSITIONS = np.random.default_rng(1).normal(scale=1e-6, size=(6, 2))


@pytest.fixture
def scan_path(tmp_path):
    path = tmp_path / "scan.cxi"
    write_scan(path, FRAMES, POSITIONS, wavelength_m=1.4e-10, distance_m=2.0, detector_pixel_m=75e-6)
    return path


def test_the_shipped_star_is_the_scan_it_says():
    with open_scan(STAR) as scan:
        assert (len(scan), scan.frame_shape, scan.dtype) == (516, (128, 128), np.uint16)
        assert scan.object_pixel_m == pytest.approx(30.17e-9)
        assert scan.wavelength_m * scan.distance_m / (128 * scan.detector_pixel_m) == pytest.approx(30.17e-9)
        assert scan.frames(slice(0, 8)).sum(axis=(1, 2)).mean() == pytest.approx(461_000, rel=0.05)
        assert scan.frames().max() == 963
        assert scan.mask is None
        assert scan.saturation is None


def test_positions_are_y_then_x_as_the_reference_has_them_in_pixels():
    with open_scan(STAR) as scan:
        reference = scan.reference()
        step_px = np.diff(scan.positions_m / scan.object_pixel_m, axis=0)
        assert np.allclose(step_px, np.diff(reference.positions_px, axis=0), atol=0.01)


def test_the_reference_of_the_star_makes_its_frames():
    with open_scan(STAR) as scan:
        reference, frame = scan.reference(), scan.frames(slice(100, 101))[0]
    y, x = np.round(reference.positions_px[100]).astype(int)
    exit_waves = reference.probe * reference.object[y : y + 128, x : x + 128]
    waves = np.fft.fftshift(np.fft.fft2(exit_waves, norm="ortho"), axes=(-2, -1))
    amplitude = np.sqrt(np.square(np.abs(waves)).sum(axis=0))
    misfit = np.linalg.norm(amplitude - np.sqrt(frame)) / np.linalg.norm(np.sqrt(frame))
    assert misfit < 0.25


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_a_written_scan_reads_back_whole_and_in_slices(tmp_path, dtype):
    mask = np.zeros((8, 10), bool)
    mask[2, 3] = True
    path = tmp_path / "scan.cxi"
    write_scan(path, FRAMES.astype(dtype), POSITIONS, saturation=4095.0, mask=mask)
    with open_scan(path) as scan:
        assert scan.dtype == dtype
        assert np.array_equal(scan.frames(), FRAMES)
        assert np.array_equal(scan.frames(slice(2, 5)), FRAMES[2:5])
        assert np.array_equal(scan.frames(slice(5, 99)), FRAMES[5:])
        assert np.array_equal(scan.positions_m, POSITIONS)
        assert np.array_equal(scan.mask, mask)
        assert scan.saturation == 4095.0
        assert (scan.wavelength_m, scan.object_pixel_m, scan.reference()) == (None, None, None)


def test_a_written_reference_reads_back(tmp_path):
    rng = np.random.default_rng(5)
    wave = (rng.normal(size=(20, 21)) + 1j * rng.normal(size=(20, 21))).astype(np.complex64)
    reference = Reference(
        wave, wave[None, :8, :10], np.abs(wave), rng.uniform(size=(6, 2)), object_pixel_m=3e-8
    )
    write_scan(tmp_path / "scan.cxi", FRAMES, POSITIONS, reference=reference)
    with open_scan(tmp_path / "scan.cxi") as scan:
        back = scan.reference()
        assert scan.object_pixel_m == back.object_pixel_m == 3e-8
    for name in ("object", "probe", "coverage", "positions_px"):
        assert np.array_equal(getattr(back, name), getattr(reference, name))


def test_the_wavelength_follows_from_the_energy_of_a_photon(scan_path):
    with h5py.File(scan_path, "a") as file:
        del file[f"{SOURCE}/wavelength"]
        file[f"{SOURCE}/energy"][()] = 8_000 * 1.602176634e-19
    with open_scan(scan_path) as scan:
        assert scan.wavelength_m == pytest.approx(1.5498e-10, rel=1e-4)


def test_frames_are_compressed_as_detectors_compress_them(scan_path):
    with h5py.File(scan_path) as file:
        filters = file[DATA].id.get_create_plist()
        assert filters.get_filter(0)[0] == 32008


def test_a_bitshuffled_scan_opens_in_a_process_that_never_heard_of_hdf5plugin(scan_path):
    script = (
        "import sys; from model.scans import open_scan\n"
        "assert 'hdf5plugin' not in sys.modules\n"
        f"scan = open_scan({str(scan_path)!r}); print(int(scan.frames().sum()))\n"
        "assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(run.stdout) == FRAMES.sum()


def test_a_scan_without_plugin_compression_never_loads_hdf5plugin():
    script = (
        "import sys; from model.scans import open_scan\n"
        f"open_scan({str(STAR)!r}).frames(slice(0, 1))\n"
        "assert 'hdf5plugin' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_failed_write_leaves_the_old_scan_and_no_half_file(scan_path):
    before = scan_path.read_bytes()
    with pytest.raises(ScanFileError, match="needed"):
        write_scan(scan_path, FRAMES, POSITIONS[:3])
    assert scan_path.read_bytes() == before
    assert list(scan_path.parent.iterdir()) == [scan_path]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ScanFileError, match="cannot be written"):
        write_scan(tmp_path / "nowhere" / "scan.cxi", FRAMES, POSITIONS)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ScanFileError, match="no such scan file"):
        open_scan(tmp_path / "scan.cxi")


def test_a_file_that_is_no_hdf5_is_told(tmp_path):
    (tmp_path / "scan.cxi").write_text("object")
    with pytest.raises(ScanFileError, match="not an HDF5 file"):
        open_scan(tmp_path / "scan.cxi")


@pytest.mark.parametrize("name", [DATA, TRANSLATION])
def test_a_missing_dataset_is_named(scan_path, name):
    with h5py.File(scan_path, "a") as file:
        del file[name]
    with pytest.raises(ScanFileError, match=f"{name} is missing"):
        open_scan(scan_path)


def test_more_positions_than_frames_are_told(scan_path):
    with h5py.File(scan_path, "a") as file:
        del file[TRANSLATION]
        file[TRANSLATION] = np.zeros((7, 3))
    with pytest.raises(ScanFileError, match="do not fit"):
        open_scan(scan_path)


def test_a_mask_of_another_shape_is_told(scan_path):
    with h5py.File(scan_path, "a") as file:
        file[f"{DETECTOR}/mask"] = np.zeros((4, 4))
    with pytest.raises(ScanFileError, match="mask"):
        open_scan(scan_path)


def test_an_incomplete_reference_is_told(scan_path):
    with h5py.File(scan_path, "a") as file:
        file["/entry_1/reference_1/object"] = np.ones((3, 3), np.complex64)
    with open_scan(scan_path) as scan, pytest.raises(ScanFileError, match="probe"):
        scan.reference()


def test_a_truncated_file_is_told(scan_path):
    scan_path.write_bytes(scan_path.read_bytes()[:-200])
    with pytest.raises(ScanFileError):
        open_scan(scan_path)


@pytest.mark.parametrize("wrong", ["eight", np.zeros(0), [1.0, 2.0]])
def test_a_distance_that_is_no_number_is_told_or_read(scan_path, wrong):
    with h5py.File(scan_path, "a") as file:
        del file[f"{DETECTOR}/distance"]
        file[f"{DETECTOR}/distance"] = wrong
    try:
        scan = open_scan(scan_path)
    except ScanFileError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert scan.distance_m == 1.0
        scan.close()
