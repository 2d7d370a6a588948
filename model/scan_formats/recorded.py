"""Scan files that were recorded from a stream: those of `cxi`, with gaps where frames did not arrive.

Beside them `/entry_1/recording_1` tells in `frames` the numbers of the frames that are there, in the order
they arrived. In all other places `data` holds its fill value; where no position is known, `translation` is
NaN.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from model.scan_formats import cxi
from model.scan_formats.hdf5 import dataset, number
from model.scan_formats.scan_file import ScanFile, ScanFileError

RECORDING: Final = "/entry_1/recording_1"

_KIND: Final = "recorded scan"


def recognises(file: h5py.File) -> bool:
    """Tell whether a file was recorded."""
    return f"{RECORDING}/frames" in file


def read(path: Path, file: h5py.File, opened: ExitStack) -> ScanFile:
    """Read what describes the scan; it has the frames that are there and have a position, without gaps.

    Raises:
        ScanFileError: a dataset is missing, or no frame has a position.
    """
    data, translation = (dataset(path, file, name, _KIND) for name in (cxi.DATA, cxi.TRANSLATION))
    positions_m = np.ascontiguousarray(translation[()][:, 1::-1], dtype=np.float64)
    recorded = np.unique(file[f"{RECORDING}/frames"][()])
    numbers = _usable(recorded, positions_m, len(data))
    if not len(numbers):
        raise ScanFileError(
            f"{path}: {len(recorded)} frames are there, none with a position: "
            "were the positions streamed to the recorder?"
        )
    scan = cxi.described(path, file, opened, data, positions_m[numbers])
    told = number(file, f"{RECORDING}/object_pixel_m")
    return replace(
        scan,
        object_pixel_m=told or scan.object_pixel_m,
        frame_numbers=None if numbers[-1] == len(numbers) - 1 else numbers,
        _read_frames=partial(_frames, data, numbers),
    )


def _usable(recorded: NDArray[np.int64], positions_m: NDArray[np.float64], frames: int) -> NDArray[np.int64]:
    """Return the numbers of the frames that have pixels and a position; a killed recorder's tables differ."""
    within = recorded[recorded < min(frames, len(positions_m))]
    return within[np.isfinite(positions_m[within]).all(axis=1)]


def _frames(data: h5py.Dataset, numbers: NDArray[np.int64], which: slice) -> NDArray[Any]:
    chosen = numbers[which]
    if not len(chosen):
        return np.empty((0, *data.shape[1:]), data.dtype)
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)
    return np.concatenate([data[run[0] : run[-1] + 1] for run in runs])
