"""Objects that are known: windows of one that was reconstructed or designed, in place of random ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.scans import ScanFileError, open_scan
from training.simulation.probes import load_array

_LIT = 0.1  # of the greatest coverage: what lies outside the box of such pixels, a reconstruction made up

Complex64 = NDArray[np.complex64]


@lru_cache(maxsize=4)
def read_object(path: str) -> Complex64:
    """Return a known object's transmission (Y, X); do not write to it, it is kept.

    Args:
        path: a scan file with a reference reconstruction, of which the well lit box is taken, or a `.npy`
            with a complex image.

    Raises:
        ScanFileError: the file cannot be read, or holds no object.
    """
    if path.endswith(".npy"):
        return _checked(path, load_array(Path(path)))
    with open_scan(Path(path)) as scan:
        reference = scan.reference()
    if reference is None:
        raise ScanFileError(f"{path}: no reference reconstruction in it, so no known object")
    rows, columns = np.nonzero(reference.coverage > _LIT * reference.coverage.max())
    lit = reference.object[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return _checked(path, lit)


def random_window(rng: np.random.Generator, known: Complex64, size: int) -> Complex64:
    """Return a window (size, size) of a known object (Y, X), a copy.

    Raises:
        ValueError: the object is smaller than that.
    """
    if min(known.shape) < size:
        raise ValueError(f"windows of {size} pixels do not fit a known object of {known.shape}")
    y, x = (int(rng.integers(0, extent - size, endpoint=True)) for extent in known.shape)
    return known[y : y + size, x : x + size].copy()


def _checked(path: str, array: NDArray[np.generic]) -> Complex64:
    if array.ndim != 2 or not np.iscomplexobj(array) or not np.isfinite(array).all():
        raise ScanFileError(f"{path}: a known object is a finite complex image (Y, X), not {array.shape}")
    return array.astype(np.complex64)
