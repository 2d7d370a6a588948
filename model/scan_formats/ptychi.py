"""pty-chi's pair of HDF5 files (AdvancedPhotonSource/pty-chi, tests/test_utils.py; ptychodus products).

The layout: `<name>dp.hdf5` holds `dp` (N, H, W). `<name>para.hdf5` beside it holds `probe` (modes, H, W) or
(OPR modes, modes, H, W), `object` (slices, Y, X) with the attributes `pixel_height_m`, `pixel_width_m`,
`center_x_m` and `center_y_m`, and `probe_position_{x_m, y_m, indexes}` (N,); its own attributes
`probe_energy_eV` and `detector_object_distance_m` may tell the geometry. Positions are probe centres, with
their origin in the middle of the object (docs/source/using_pty_chi/position_mapping.rst), rows downward.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.optics import intensity
from model.scan_formats.hdf5 import (
    ELECTRONVOLT_J,
    as_counts,
    counts_dtype,
    dataset,
    load_filters,
    open_hdf5,
    photon_wavelength_m,
)
from model.scan_formats.scan_file import Reference, ScanFile, ScanFileError

_KIND: Final = "pty-chi"
_PATTERNS: Final = "dp"
_POSITIONS: Final = ("probe_position_y_m", "probe_position_x_m")
_OTHER: Final = {"dp": "para", "para": "dp"}


def recognises(file: h5py.File) -> bool:
    """Return whether this is one of the pair."""
    return _PATTERNS in file or any(name in file for name in _POSITIONS)


def read(path: Path, file: h5py.File, opened: ExitStack) -> ScanFile:
    """Read what describes the scan of an open file and the other of its pair, which is opened too.

    Frames and reference are read when asked for. The reference's probe is as stored: it fits the frames
    where it was retrieved from them.

    Raises:
        ScanFileError: the other file or a part is missing, or does not fit the others.
    """
    other = open_hdf5(_other(path), opened)
    patterns, parameters = (file, other) if _PATTERNS in file else (other, file)
    data = dataset(Path(patterns.filename), patterns, _PATTERNS, _KIND)
    load_filters(path, data)
    holder = Path(parameters.filename)
    positions_m, pixel_m = _positions_m(holder, parameters, data), _object_pixel_m(holder, parameters)
    return ScanFile(
        path=path,
        positions_m=positions_m,
        frame_shape=(int(data.shape[1]), int(data.shape[2])),
        dtype=counts_dtype(data.dtype),
        wavelength_m=photon_wavelength_m(_attribute(parameters, "probe_energy_eV", ELECTRONVOLT_J)),
        distance_m=_attribute(parameters, "detector_object_distance_m"),
        detector_pixel_m=None,
        object_pixel_m=pixel_m,
        saturation=None,
        mask=None,
        _read_frames=lambda which: as_counts(data[which]),
        _read_reference=partial(_read_reference, holder, parameters, positions_m, pixel_m),
        _opened=opened,
    )


def _other(path: Path) -> Path:
    """Return where the other file of the pair must be.

    Raises:
        ScanFileError: the name does not tell, or it is not there.
    """
    named = re.fullmatch(r"(?P<scan>.*)(?P<part>dp|para)", path.stem)
    if named is None:
        raise ScanFileError(
            f"{path}: one of pty-chi's pair of files, but their names must end in dp and para"
        )
    other = path.with_name(f"{named['scan']}{_OTHER[named['part']]}{path.suffix}")
    if not other.is_file():
        raise ScanFileError(f"{path}: the other file of pty-chi's pair, {other.name}, is not beside it")
    return other


def _attribute(group: h5py.Group | h5py.Dataset, name: str, unit: float = 1.0) -> float | None:
    """Return an attribute in SI units; None where it is not there, or 0 because it was not known."""
    return float(group.attrs.get(name, 0.0)) * unit or None


def _object_pixel_m(path: Path, parameters: h5py.File) -> float | None:
    """Return the object's pixel; None where there is no object.

    Raises:
        ScanFileError: it is not told, or not square.
    """
    if "object" not in parameters:
        return None
    height_m, width_m = (_attribute(parameters["object"], f"pixel_{side}_m") for side in ("height", "width"))
    if height_m is None or width_m is None or not np.isclose(height_m, width_m, rtol=1e-3, atol=0):
        raise ScanFileError(
            f"{path}: the object's pixel is {height_m} × {width_m} m: its attributes pixel_height_m and "
            "pixel_width_m must be there and equal"
        )
    return height_m


def _positions_m(path: Path, parameters: h5py.File, data: h5py.Dataset) -> NDArray[np.float64]:
    """Return the probe centres y, x of each frame.

    A frame's position is the one with its index; where the indexes do not number the frames from 0,
    positions are in the order of the frames, as pty-chi takes them.
    """
    axes = [dataset(path, parameters, name, _KIND) for name in _POSITIONS]
    if data.ndim != 3 or any(axis.shape != data.shape[:1] for axis in axes):
        raise ScanFileError(
            f"{path}: patterns {data.shape} and positions {[axis.shape for axis in axes]} do not fit: "
            "(N, H, W) and (N,) are needed"
        )
    positions_m = np.stack([axis[()] for axis in axes], axis=1).astype(np.float64)
    indexes = np.asarray(parameters.get("probe_position_indexes", np.arange(len(data))))
    numbered = np.array_equal(np.sort(indexes, axis=None), np.arange(len(data)))
    return positions_m[np.argsort(indexes)] if numbered else positions_m


def _read_reference(
    path: Path, parameters: h5py.File, positions_m: NDArray[np.float64], pixel_m: float | None
) -> Reference | None:
    if pixel_m is None:
        return None
    transmission = _transmission(path, parameters)
    probe = _probe(dataset(path, parameters, "probe", _KIND)[()])
    centre_m = [_attribute(parameters["object"], f"center_{axis}_m") or 0.0 for axis in "yx"]
    middle = np.rint(np.array(transmission.shape) / 2) - np.array(probe.shape[1:]) / 2
    corners = (positions_m - centre_m) / pixel_m + middle
    return Reference(
        object=transmission,
        probe=probe,
        coverage=_coverage(intensity(probe), transmission.shape, np.rint(corners).astype(int)),
        positions_px=corners,
        object_pixel_m=pixel_m,
    )


def _transmission(path: Path, parameters: h5py.File) -> NDArray[np.complex64]:
    """Return the object (Y, X); one of several slices is no transmission that tiles could be cut from."""
    slices = parameters["object"][()].astype(np.complex64)
    if slices.ndim not in (2, 3) or (slices.ndim == 3 and len(slices) != 1):
        raise ScanFileError(
            f"{path}: the object {slices.shape} has several slices: a reference needs a thin one, (1, Y, X)"
        )
    thin: NDArray[np.complex64] = slices.reshape(slices.shape[-2:])
    return thin


def _probe(stored: NDArray[Any]) -> NDArray[np.complex64]:
    """Return the modes (M, H, W) of the first OPR mode, the dominant one first."""
    modes = (stored[0] if stored.ndim == 4 else stored).astype(np.complex64)
    modes = modes.reshape(-1, *modes.shape[-2:])
    by_power = np.argsort(-np.square(np.abs(modes)).sum(axis=(1, 2)), kind="stable")
    sorted_modes: NDArray[np.complex64] = modes[by_power]
    return sorted_modes


def _coverage(
    light: NDArray[np.floating[Any]], shape: tuple[int, ...], corners: NDArray[np.int_]
) -> NDArray[np.float32]:
    """Return how much light fell on each pixel of the object; what fell beside it is left out."""
    height, width = light.shape
    padded = np.zeros((shape[0] + 2 * height, shape[1] + 2 * width), np.float32)
    for y, x in np.clip(corners, [-height, -width], shape):
        padded[y + height : y + 2 * height, x + width : x + 2 * width] += light
    return padded[height : height + shape[0], width : width + shape[1]]
