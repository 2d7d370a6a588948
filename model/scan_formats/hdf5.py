"""What reading the HDF5 formats shares: opening, datasets, numbers, compression filters, geometry."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.geometry import object_pixel_m
from model.scan_formats.scan_file import ScanFileError

ELECTRONVOLT_J: Final = 1.602176634e-19

_PLANCK_TIMES_LIGHT_J_M: Final = 6.62607015e-34 * 299_792_458
_FIRST_PLUGIN_FILTER: Final = 256  # HDF5 numbers the filters it does not bring itself from here on


def open_hdf5(path: Path, opened: ExitStack) -> h5py.File:
    """Open a file for reading, to be closed with `opened`; a recording may still be written, or be cut short.

    Raises:
        ScanFileError: it is not there, or no HDF5 file.
    """
    if not path.is_file():
        raise ScanFileError(f"{path}: no such scan file")
    try:
        return opened.enter_context(h5py.File(path, "r"))
    except OSError:
        return _open_unfinished(path, opened)


def _open_unfinished(path: Path, opened: ExitStack) -> h5py.File:
    """Open a file that is being written, or whose writer was killed: HDF5 takes such a one only as SWMR."""
    try:
        return opened.enter_context(h5py.File(path, "r", swmr=True))
    except OSError as error:
        raise ScanFileError(f"{path}: not an HDF5 file, or damaged") from error


def dataset(path: Path, group: h5py.Group, name: str, kind: str) -> h5py.Dataset:
    """Return a dataset that a file of this kind must have.

    Raises:
        ScanFileError: it has not.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        where = name if name.startswith("/") else f"{group.name.rstrip('/')}/{name}"
        raise ScanFileError(f"{path}: {where} is missing: is this a {kind} file?")
    return found


def number(file: h5py.File, name: str) -> float | None:
    """Return the first number of a dataset, None where the file does not have it."""
    return float(np.asarray(file[name][()]).reshape(-1)[0]) if name in file else None


def photon_wavelength_m(energy_j: float | None) -> float | None:
    """Return the wavelength of a photon, hc / E; None where no energy is told."""
    return _PLANCK_TIMES_LIGHT_J_M / energy_j if energy_j else None


def photon_energy_j(wavelength_m: float | None) -> float | None:
    """Return the energy of a photon, hc / λ; None where no wavelength is told."""
    return _PLANCK_TIMES_LIGHT_J_M / wavelength_m if wavelength_m else None


def far_field_pixel_m(
    wavelength_m: float | None, distance_m: float | None, detector_pixel_m: float | None, pixels: int
) -> float | None:
    """Return the object's pixel in metres; None where a part of the geometry is not known."""
    if not (wavelength_m and distance_m and detector_pixel_m):
        return None
    return object_pixel_m(wavelength_m, distance_m, detector_pixel_m, pixels)


def load_filters(path: Path, data: h5py.Dataset) -> None:
    """Register hdf5plugin's filters if the frames were written with one.

    Raises:
        ScanFileError: they were, and hdf5plugin is not installed.
    """
    filters = data.id.get_create_plist()
    numbers = [filters.get_filter(place)[0] for place in range(filters.get_nfilters())]
    if any(number >= _FIRST_PLUGIN_FILTER for number in numbers) and not plugins():
        raise ScanFileError(f"{path}: the frames' compression needs hdf5plugin: pip install hdf5plugin")


def plugins() -> Any | None:
    """Return the hdf5plugin package, None where it is not installed; importing it registers its filters."""
    try:
        import hdf5plugin
    except ImportError:
        return None
    return hdf5plugin


def counts_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the pixel type that frames of a processed file are given as: one that detectors send.

    Reconstruction programs also store signed integers and double precision.
    """
    if stored.kind == "f":
        return np.dtype(np.float32)
    kept = stored.kind == "u" and stored.itemsize <= np.dtype(np.uint32).itemsize
    return stored if kept else np.dtype(np.uint32)


def as_counts(frames: NDArray[Any]) -> NDArray[Any]:
    """Return frames in their `counts_dtype`; negative integers, which mark bad pixels, become 0."""
    if frames.dtype.kind == "i":
        frames = np.maximum(frames, 0)
    return frames.astype(counts_dtype(frames.dtype), copy=False)
