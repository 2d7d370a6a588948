import numpy as np
import pytest

from model.optics import spectrum
from model.scans import ScanFileError, write_scan
from training.simulation.probes import crop_far_field, diameter_px, main_modes, read_probe


def test_the_probe_of_a_reconstruction_is_read(scan, probe):
    np.testing.assert_array_equal(read_probe(scan), probe)


@pytest.mark.parametrize("modes", [slice(None), 0])
def test_a_probe_is_read_from_a_numpy_file_with_one_mode_or_more(tmp_path, probe, modes):
    np.save(tmp_path / "probe.npy", probe[modes].astype(np.complex128))
    found = read_probe(tmp_path / "probe.npy")
    assert found.dtype == np.complex64
    np.testing.assert_array_equal(found, np.atleast_3d(probe)[modes].reshape(-1, 32, 32))


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (np.ones((32, 32)), "complex"),
        (np.ones(32, complex), "complex"),
        (np.zeros((1, 8, 8), complex), "without light"),
        (np.full((8, 8), np.nan + 0j), "no numbers"),
        (np.array([{"pickled": "code"}]), "not a NumPy array"),
    ],
)
def test_what_is_no_probe_is_refused(tmp_path, stored, reason):
    np.save(tmp_path / "probe.npy", stored, allow_pickle=True)
    with pytest.raises(ScanFileError, match=reason):
        read_probe(tmp_path / "probe.npy")


def test_a_file_that_is_not_there_or_has_no_probe_is_refused(tmp_path):
    with pytest.raises(ScanFileError, match="no such file"):
        read_probe(tmp_path / "nowhere.npy")
    write_scan(tmp_path / "bare.cxi", np.zeros((1, 32, 32), np.uint16), np.zeros((1, 2)))
    with pytest.raises(ScanFileError, match="no reference"):
        read_probe(tmp_path / "bare.cxi")


def light_of(probe):
    return np.square(np.abs(probe))


def test_half_the_detector_keeps_the_middle_of_every_modes_far_field(probe):
    smaller = crop_far_field(probe, 16)
    np.testing.assert_allclose(spectrum(smaller), spectrum(probe)[:, 8:24, 8:24], atol=1e-4)
    assert light_of(smaller).sum() == pytest.approx(light_of(probe).sum(), rel=0.02)


def test_a_probe_on_half_the_detector_is_half_as_many_pixels_wide(probe):
    assert diameter_px(crop_far_field(probe, 16)) == pytest.approx(diameter_px(probe) / 2, rel=0.1)


@pytest.mark.parametrize("edge_px", [0, 33])
def test_no_detector_is_larger_than_the_far_field(probe, edge_px):
    with pytest.raises(ValueError, match="cannot take"):
        crop_far_field(probe, edge_px)


def test_the_main_mode_holds_all_of_the_light(probe):
    (main,) = main_modes(probe, 1)
    assert light_of(main).sum() == pytest.approx(light_of(probe).sum(), rel=1e-5)
    np.testing.assert_allclose(main / main[16, 16], probe[0] / probe[0, 16, 16], rtol=1e-5)
    assert main_modes(probe, None) is probe


def test_modes_that_a_probe_has_not_cannot_be_taken(probe):
    with pytest.raises(ValueError, match="3 modes of a probe that has 2"):
        main_modes(probe, 3)


def test_the_diameter_of_a_gaussian_probe_is_its_full_width_at_half_maximum():
    y, x = np.mgrid[:64, :64] - 32.0
    gaussian = np.exp(-(y**2 + x**2) / (4 * 6.0**2))[None].astype(np.complex64)  # intensity of σ = 6
    assert diameter_px(gaussian) == pytest.approx(2.355 * 6, rel=0.03)
