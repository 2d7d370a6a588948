"""The probe of an instrument: all that simulated frames need to be those of this instrument."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.scans import ScanFileError, open_scan


def read_probe(path: Path) -> NDArray[np.complex64]:
    """Return the modes (M, H, W) of a probe, square-root photons a pixel, the dominant one first.

    Args:
        path: a scan file whose reference reconstruction holds the probe, or a `.npy` with the modes
            (M, H, W) or the only one (H, W).

    Raises:
        ScanFileError: the file cannot be read, or holds no probe.
    """
    if path.suffix == ".npy":
        return _checked(path, _load(path))
    with open_scan(path) as scan:
        reference = scan.reference()
    if reference is None:
        raise ScanFileError(f"{path}: no reference reconstruction in it, so no probe to work with")
    return reference.probe


def _load(path: Path) -> NDArray[np.generic]:
    try:
        stored: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise ScanFileError(f"{path}: no such probe file") from error
    except (OSError, ValueError, EOFError) as error:
        raise ScanFileError(f"{path}: not a NumPy array file, or damaged") from error
    return stored


def _checked(path: Path, stored: NDArray[np.generic]) -> NDArray[np.complex64]:
    if stored.dtype.kind != "c" or stored.ndim not in (2, 3):
        raise ScanFileError(
            f"{path}: {stored.dtype} {stored.shape} is no probe: complex (M, H, W) or (H, W) is needed"
        )
    modes = stored.astype(np.complex64).reshape(-1, *stored.shape[-2:])
    if not (np.isfinite(modes).all() and modes.any()):
        raise ScanFileError(f"{path}: a probe without light, or with values that are no numbers")
    return modes
