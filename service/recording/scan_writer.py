"""One scan file while it is recorded; whoever kills its writer leaves a file that can be read.

HDF5's SWMR mode ("single writer, multiple readers") writes the tables that find the chunks in an order in
which a reader never meets half of one. So at any moment the file holds all frames up to the last flush, for a
viewer that looks on (h5py: `h5py.File(path, swmr=True)`) as for whoever finds it after a `kill -9`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from model.scans import DATA, TRANSLATION
from service.errors import RecordingError
from service.messages import Float64, PackedPixels, ScanStart
from service.recording.chunks import Storage
from service.recording.disk import ReservedFile
from service.recording.layout import ENDED, FRAMES, LEDGER, ended_value, header, ledger_numbers

_FIRST_ROOM: Final = 1024  # frames
_MOST_MORE_ROOM: Final = 1 << 16
_BYTES_OF_TABLES: Final = 128  # a frame: where its chunk lies, its number, its position
_REASON: Final = re.compile(r"error message = '([^']+)'")
_BROKEN: Final[list[h5py.File]] = []  # HDF5 crashes where it closes what it could not write: these stay open


class ScanWriter:
    """Writes one scan file; frames and positions lie by frame number.

    After a `RecordingError` nothing but `close` may be called.

    Args:
        path: of the file, which must not be there yet.
        start: what was told of the scan.
        first: pixels of its first frame, which decide how all are kept.
        origin: where the stream came from, in a few words each.

    Raises:
        RecordingError: the file cannot be made; nothing is left behind.
    """

    def __init__(self, path: Path, start: ScanStart, first: PackedPixels, origin: Mapping[str, str]) -> None:
        self.path = path
        self._storage = Storage.of(first)
        self._numbers: list[int] = []  # of the frames since the last flush
        self._placed: list[tuple[int, Float64]] = []  # positions since then
        self._recorded = self._end = self._room = 0
        self._is_broken = False
        hidden = path.with_name(f".{path.name}")  # until it can be read
        with self._told():
            self._disk = ReservedFile(hidden, header(start, self._storage, origin))
        try:
            with self._told():
                self._file = h5py.File(hidden, "r+", libver="latest")
                self._file.swmr_mode = True
                hidden.rename(path)
        except RecordingError:
            self._disk.close(trim=False)
            raise
        self._data: h5py.Dataset = self._file[DATA]
        self._translation: h5py.Dataset = self._file[TRANSLATION]

    def frame(self, index: int, pixels: PackedPixels) -> None:
        """Write a frame.

        Raises:
            PixelError: it came otherwise than the first, and its bytes are damaged.
            RecordingError: there is no room for it, or the disk failed.
        """
        blob, without = self._storage.chunk(pixels)
        with self._told():
            self._disk.take(memoryview(blob).nbytes + _BYTES_OF_TABLES)
        with self._told_by_hdf5():
            self._make_room(index + 1)
            self._data.id.write_direct_chunk((index, 0, 0), blob, without)
        self._numbers.append(index)
        self._end = max(self._end, index + 1)

    def place(self, first: int, positions_m: Float64) -> None:
        """Keep (n, 2) positions y, x in metres of consecutive frames for the next flush."""
        self._placed.append((first, positions_m))

    def flush(self, ledger: Mapping[str, Any]) -> None:
        """Bring frames, positions and ledger to where a reader finds them.

        Args:
            ledger: its counts as plain values.

        Raises:
            RecordingError: the disk failed.
        """
        with self._told_by_hdf5():
            self._write_tables(ledger)
            self._file.flush()

    def close(self, ledger: Mapping[str, Any], ended: str) -> int:
        """End the file; return how many of its frames have no position.

        Args:
            ledger: the last counts as plain values.
            ended: what ended the recording.

        Raises:
            RecordingError: the disk failed; what was flushed before can be read.
        """
        try:
            if self._is_broken:
                raise RecordingError(f"{self.path} cannot be ended: its disk failed before")
            return self._end_file(ledger, ended)
        finally:
            self._disk.close(trim=not self._is_broken)

    def _end_file(self, ledger: Mapping[str, Any], ended: str) -> int:
        with self._told_by_hdf5():
            self._write_tables(ledger)
            self._resize(self._end)
            self._file[ENDED][()] = ended_value(ended)
            numbers, xyz = self._file[FRAMES][()], self._translation[()]
            self._file.close()
        return int(np.count_nonzero(np.isnan(xyz[numbers, 0])))

    def _write_tables(self, ledger: Mapping[str, Any]) -> None:
        frames, numbers = self._file[FRAMES], self._numbers
        frames.resize((self._recorded + len(numbers),))
        frames[self._recorded :] = numbers
        self._recorded += len(numbers)
        self._numbers = []
        for first, positions_m in _joined(self._placed):
            self._make_room(first + len(positions_m))
            self._translation[first : first + len(positions_m), :2] = positions_m[:, ::-1]
            self._translation[first : first + len(positions_m), 2] = 0.0
        self._placed = []
        for name, number in ledger_numbers(ledger).items():
            self._file[f"{LEDGER}/{name}"][()] = number

    def _make_room(self, frames: int) -> None:
        """Let the tables reach to a frame, in large steps: one takes as long as four frames."""
        if frames > self._room:
            self._resize(max(frames, _FIRST_ROOM, self._room + min(self._room, _MOST_MORE_ROOM)))

    def _resize(self, frames: int) -> None:
        self._data.resize(frames, 0)
        self._translation.resize(frames, 0)
        self._room = frames

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a disk's refusal into one line."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise RecordingError(f"{self.path} cannot be written: {_reason(error)}") from error

    @contextmanager
    def _told_by_hdf5(self) -> Iterator[None]:
        """Do the same, and leave the file alone from then on."""
        try:
            with self._told():
                yield
        except RecordingError:
            self._is_broken = True
            _BROKEN.append(self._file)
            raise


def _joined(blocks: list[tuple[int, Float64]]) -> Iterator[tuple[int, Float64]]:
    """Yield blocks of positions with those that follow on one another as one: each costs a call of HDF5."""
    run: list[Float64] = []
    begin = end = 0
    for first, positions_m in blocks:
        if run and first != end:
            yield begin, np.concatenate(run)
            run = []
        begin = begin if run else first
        run.append(positions_m)
        end = first + len(positions_m)
    if run:
        yield begin, np.concatenate(run)


def _reason(error: Exception) -> str:
    """Return what the disk said, without HDF5's particulars."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    found = _REASON.search(str(error))
    return found[1] if found else str(error).partition("\n")[0]
