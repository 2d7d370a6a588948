"""Pixel masks from files: NumPy, TIFF, or HDF5 as detectors and facilities write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray

from service.errors import ConfigError

# DECTRIS' and CXI's places for a mask; a file with one image only may keep it anywhere
_HDF5_PLACES: Final = (
    "/entry/instrument/detector/pixel_mask",
    "/entry/instrument/detector/detectorSpecific/pixel_mask",
    "/entry_1/instrument_1/detector_1/mask",
)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return (H, W) bool, True where the file holds anything but 0: there a pixel must not be used.

    Args:
        path: .npy, .tif, .tiff, .h5, .hdf5, .nxs or .cxi.

    Raises:
        ConfigError: it cannot be read, or holds no single image.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"mask {path}: is none of {', '.join(_READERS)}")
    try:
        mask = np.asarray(reader(path))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError) as error:
        raise ConfigError(f"mask {path} cannot be read: {' '.join(str(error).split())}") from error
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise ConfigError(f"mask {path} holds {mask.dtype} {mask.shape}: one image of integers is needed")
    bad: NDArray[np.bool_] = mask != 0
    return bad


def _read_npy(path: Path) -> NDArray[Any]:
    loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    return loaded


def _read_tiff(path: Path) -> NDArray[Any]:
    return np.asarray(tifffile.imread(path))


def _read_hdf5(path: Path) -> NDArray[Any]:
    with h5py.File(path, "r") as file:
        places = [place for place in _HDF5_PLACES if place in file] or _images(file)
        if not places:
            raise ValueError(f"it has no image, nor {_HDF5_PLACES[0]}")
        if len(places) > 1:
            raise ValueError(f"it has several: {', '.join(places[:4])}; save the right one as .npy")
        return np.asarray(file[places[0]][()])


def _images(file: h5py.File) -> list[str]:
    """Return the names of all datasets of two dimensions."""
    found: list[str] = []

    def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim == 2:
            found.append(name)

    file.visititems(visit)
    return found


_READERS: Final[dict[str, Callable[[Path], NDArray[Any]]]] = {
    ".npy": _read_npy,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    **dict.fromkeys((".h5", ".hdf5", ".nxs", ".cxi"), _read_hdf5),
}
