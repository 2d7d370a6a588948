"""ptypy's prepared data, `.ptyd` (ptycho/ptypy, ptypy/core/data.py and ptypy/io/h5rw.py).

The layout: `/chunks/<n>/{data (n, H, W), positions (n, 2: y, x in metres), weights (n, H, W)}`, chunks
numbered from 0, in this file or linked from `<name>.ptyd.part<n>` beside it; `/meta/{energy in keV,
distance and psize in metres, center (y, x) of the frames as they are stored, in pixels}`. A value that
ptypy was not told is a dataset with the attribute `type` "None".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.scan_formats.hdf5 import (
    ELECTRONVOLT_J,
    as_counts,
    counts_dtype,
    dataset,
    far_field_pixel_m,
    load_filters,
    photon_wavelength_m,
)
from model.scan_formats.scan_file import ScanFile, ScanFileError

Shift = tuple[int, int]

_KIND: Final = "ptypy .ptyd"


def recognises(file: h5py.File) -> bool:
    """Return whether this is a `.ptyd` file."""
    return "chunks" in file


def read(path: Path, file: h5py.File, opened: ExitStack) -> ScanFile:
    """Read what describes the scan of an open file; frames are read when asked for.

    Its mask is where the weights of the first frame are 0. It has no reference: ptypy keeps
    reconstructions in other files.

    Raises:
        ScanFileError: a part is missing or does not fit the others.
    """
    chunks = _chunks(path, file)
    data = [dataset(path, chunk, "data", _KIND) for chunk in chunks]
    frame_shape = _frame_shape(path, data)
    load_filters(path, data[0])
    shift = _shift_to_centre(path, file, frame_shape)
    wavelength_m = photon_wavelength_m(_scaled(file, "energy", 1e3 * ELECTRONVOLT_J))
    distance_m, detector_pixel_m = _scaled(file, "distance"), _scaled(file, "psize")
    return ScanFile(
        path=path,
        positions_m=_positions_m(path, chunks, data),
        frame_shape=frame_shape,
        dtype=counts_dtype(data[0].dtype),
        wavelength_m=wavelength_m,
        distance_m=distance_m,
        detector_pixel_m=detector_pixel_m,
        object_pixel_m=far_field_pixel_m(wavelength_m, distance_m, detector_pixel_m, frame_shape[1]),
        saturation=None,
        mask=_mask(chunks[0], frame_shape, shift),
        _read_frames=partial(_frames, data, shift),
        _read_reference=lambda: None,
        _opened=opened,
    )


def _chunks(path: Path, file: h5py.File) -> list[h5py.Group]:
    """Return the chunks in order; one linked from a file that is gone is an error, not a gap."""
    names = sorted(file["chunks"], key=int)
    if not names:
        raise ScanFileError(f"{path}: no frames in /chunks: was the preparation finished?")
    found = [file["chunks"].get(name) for name in names]
    for name, chunk in zip(names, found, strict=True):
        if not isinstance(chunk, h5py.Group):
            raise ScanFileError(f"{path}: chunk {name} is in a file of its own that is not beside this one")
    return found


def _frame_shape(path: Path, data: Sequence[h5py.Dataset]) -> tuple[int, int]:
    shapes = {chunk.shape[1:] for chunk in data}
    if len(shapes) != 1 or data[0].ndim != 3:
        raise ScanFileError(f"{path}: chunks of frames of {sorted(shapes)} do not fit: (n, H, W) is needed")
    height, width = shapes.pop()
    return (int(height), int(width))


def _positions_m(
    path: Path, chunks: Sequence[h5py.Group], data: Sequence[h5py.Dataset]
) -> NDArray[np.float64]:
    parts = [dataset(path, chunk, "positions", _KIND) for chunk in chunks]
    for part, frames in zip(parts, data, strict=True):
        if part.shape != (len(frames), 2):
            raise ScanFileError(
                f"{path}: {part.name} {part.shape} and {frames.name} {frames.shape} do not fit: "
                "(n, 2) and (n, H, W) are needed"
            )
    return np.concatenate([part[()] for part in parts]).astype(np.float64)


def _told(file: h5py.File, name: str) -> NDArray[Any] | None:
    """Return the numbers of a value in /meta, None where ptypy was not told it."""
    found = file.get(f"meta/{name}")
    if not isinstance(found, h5py.Dataset) or found.attrs.get("type") == "None":
        return None
    return np.asarray(found[()]).reshape(-1) if found.dtype.kind in "iuf" else None


def _scaled(file: h5py.File, name: str, unit: float = 1.0) -> float | None:
    """Return a value of /meta, the last of a pair, in SI units."""
    told = _told(file, name)
    return None if told is None else float(told[-1]) * unit


def _shift_to_centre(path: Path, file: h5py.File, frame_shape: tuple[int, int]) -> Shift:
    """Return by how many pixels y, x frames must be rolled so that the zero frequency is at N // 2.

    ptypy's flips of even frames leave it one pixel off; in a periodic spectrum a roll by one is exact.
    """
    centre = _told(file, "center")
    middle = np.array(frame_shape) // 2
    shift = middle - np.rint(middle if centre is None else centre).astype(int)
    if np.abs(shift).max() > 1:
        raise ScanFileError(
            f"{path}: /meta/center is {centre}, far from the frames' middle {tuple(middle.tolist())}: "
            "let ptypy crop them about it (`center` and `shape`)"
        )
    return (int(shift[0]), int(shift[1]))


def _mask(chunk: h5py.Group, frame_shape: tuple[int, int], shift: Shift) -> NDArray[np.bool_] | None:
    weights = chunk.get("weights")
    if not isinstance(weights, h5py.Dataset) or weights.shape[1:] != frame_shape or not len(weights):
        return None
    return np.asarray(np.roll(weights[0] <= 0, shift, axis=(0, 1)))


def _frames(data: Sequence[h5py.Dataset], shift: Shift, which: slice) -> NDArray[Any]:
    """Read a slice of the frames of all chunks, from the first to the last one wanted."""
    wanted = range(sum(len(chunk) for chunk in data))[which]
    first, stop = (min(wanted), max(wanted) + 1) if wanted else (0, 0)
    parts, start = [], 0
    for chunk in data:
        parts.append(chunk[max(first - start, 0) : max(stop - start, 0)])
        start += len(chunk)
    stack = as_counts(np.concatenate(parts)[np.asarray(wanted, dtype=np.intp) - first])
    return np.roll(stack, shift, axis=(1, 2)) if any(shift) else stack
