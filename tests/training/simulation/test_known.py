import numpy as np
import pytest

from model.scans import Reference, ScanFileError, write_scan
from training.simulation.known import random_window, read_object
from training.simulation.pool import NumberedObjects
from training.simulation.transmission import ObjectRecipe

SIZE = 24


@pytest.fixture
def known(tmp_path):
    """Write an object (40, 60) whose every pixel is another, and return where."""
    y, x = np.mgrid[:40, :60]
    np.save(tmp_path / "object.npy", (1 + y + 1j * x).astype(np.complex128))
    return str(tmp_path / "object.npy")


def lies_in(window, whole):
    y, x = int(window[0, 0].real) - 1, int(window[0, 0].imag)
    return np.array_equal(window, whole[y : y + SIZE, x : x + SIZE])


def test_windows_of_a_known_object_are_taken_everywhere(known):
    whole = read_object(known)
    rng = np.random.default_rng(0)
    windows = [random_window(rng, whole, SIZE) for _ in range(300)]
    assert all(lies_in(window, whole) for window in windows)
    assert {int(window[0, 0].real) for window in windows} == set(range(1, 40 - SIZE + 2))


def test_as_many_objects_as_asked_for_are_windows_of_the_known_one(known):
    row = NumberedObjects(ObjectRecipe(known=known, known_share=0.75), SIZE, seed=1)
    taken = [lies_in(row[j], row.known) for j in range(200)]
    assert 0.65 < np.mean(taken) < 0.85


def test_without_a_known_object_the_row_is_what_it_was(known):
    plain = NumberedObjects(ObjectRecipe(), SIZE, seed=1)
    np.testing.assert_array_equal(plain[3], NumberedObjects(ObjectRecipe(known_share=1.0), SIZE, seed=1)[3])


def test_of_a_reconstruction_only_the_well_lit_box_is_known(tmp_path):
    y, x = np.mgrid[:40, :60]
    coverage = np.full((40, 60), 0.01, np.float32)
    coverage[5:30, 8:50] = 1
    whole = (1 + y + 1j * x).astype(np.complex64)
    reference = Reference(whole, np.ones((1, 8, 8), np.complex64), coverage, np.zeros((1, 2)), 1e-8)
    scan = tmp_path / "done.cxi"
    write_scan(scan, np.ones((1, 8, 8), np.uint16), np.zeros((1, 2)), reference=reference)
    np.testing.assert_array_equal(read_object(str(scan)), whole[5:30, 8:50])


@pytest.mark.parametrize("stored", [np.ones((40, 40)), np.ones(40, complex), np.full((40, 40), np.nan + 0j)])
def test_what_is_no_object_is_refused(tmp_path, stored):
    np.save(tmp_path / "no-object.npy", stored)
    with pytest.raises(ScanFileError, match="finite complex image"):
        read_object(str(tmp_path / "no-object.npy"))


def test_a_scan_that_was_never_reconstructed_and_an_object_too_small_are_refused(tmp_path, known):
    write_scan(tmp_path / "bare.cxi", np.zeros((1, 32, 32), np.uint16), np.zeros((1, 2)))
    with pytest.raises(ScanFileError, match="no known object"):
        read_object(str(tmp_path / "bare.cxi"))
    with pytest.raises(ValueError, match="do not fit"):
        random_window(np.random.default_rng(0), read_object(known), 41)
