"""What the recording of a killed service holds of a scan: frames and positions as the detector sent them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from model.scans import DATA, RECORDING, TRANSLATION
from service.errors import RecordingError
from service.messages import Float64, PackedPixels
from service.recording.chunks import Storage
from service.recording.layout import FRAMES


@dataclass(frozen=True, slots=True, eq=False)
class LeftRecording:
    """An open scan file.

    Attributes:
        frames: numbers of the frames that are there, ascending.
        positions_m: (n, 2) positions y, x of frame 0, 1, …, NaN where none is known.
    """

    frames: NDArray[np.int64]
    positions_m: Float64
    _data: h5py.Dataset
    _storage: Storage

    def packed(self, index: int) -> PackedPixels:
        """Return a frame as it came.

        Raises:
            RecordingError: it cannot be read.
        """
        with _told("a frame"):
            without, blob = self._data.id.read_direct_chunk((index, 0, 0))
            return self._storage.packed(blob, without)


def recordings_of(scan: str, folder: Path, since_ns: int) -> list[Path]:
    """Return the scan files in a folder that were written of a scan since a time, the oldest first."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob(f"{scan}*.cxi"):
        written_ns = path.stat().st_mtime_ns
        if written_ns >= since_ns and _scan_of(path) == scan:
            found.append((written_ns, path))
    return [path for _, path in sorted(found)]


@contextmanager
def open_recording(path: Path) -> Iterator[LeftRecording]:
    """Open a scan file that nobody has ended.

    Raises:
        RecordingError: it cannot be read.
    """
    with _told(str(path)):
        file = h5py.File(path, swmr=True)
    with file:
        with _told(str(path)):
            data, translation = file[DATA], file[TRANSLATION][()]
            frames = np.unique(file[FRAMES][()])
            left = LeftRecording(
                frames[(frames >= 0) & (frames < len(data))],
                np.ascontiguousarray(translation[:, 1::-1], np.float64),
                data,
                Storage.found(data.shape[1:], data.dtype, _filter(data)),
            )
        yield left


def _scan_of(path: Path) -> Any:
    try:
        with h5py.File(path, swmr=True) as file:
            return file[RECORDING].attrs["scan"]
    except (OSError, KeyError):
        return None


def _filter(data: h5py.Dataset) -> int | None:
    told = data.id.get_create_plist()
    return int(told.get_filter(0)[0]) if told.get_nfilters() else None


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise RecordingError(f"{what} of the recording cannot be read: {error}") from error
