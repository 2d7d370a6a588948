import numpy as np
import pytest

from model.scans import ScanFileError, write_scan
from training.simulation.probes import read_probe


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
    with pytest.raises(ScanFileError, match="no such probe file"):
        read_probe(tmp_path / "nowhere.npy")
    write_scan(tmp_path / "bare.cxi", np.zeros((1, 32, 32), np.uint16), np.zeros((1, 2)))
    with pytest.raises(ScanFileError, match="no reference"):
        read_probe(tmp_path / "bare.cxi")
