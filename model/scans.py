"""Scan files: frames, positions and geometry of one scan, in whichever format they were written.

Read: CXI / NXcxi_ptycho, recordings of a stream in it, ptypy's `.ptyd`, and pty-chi's pair of HDF5 files.
Written: CXI.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from model.scan_formats import cxi, ptychi, ptyd, recorded
from model.scan_formats.cxi import (
    DATA,
    DETECTOR,
    REFERENCE,
    SOURCE,
    TRANSLATION,
    write_instrument,
    write_scan,
)
from model.scan_formats.hdf5 import open_hdf5
from model.scan_formats.recorded import RECORDING
from model.scan_formats.scan_file import Reference, ScanFile, ScanFileError, readable

__all__ = [
    "DATA",
    "DETECTOR",
    "RECORDING",
    "REFERENCE",
    "SOURCE",
    "TRANSLATION",
    "Reference",
    "ScanFile",
    "ScanFileError",
    "open_scan",
    "write_instrument",
    "write_scan",
]


_NUMPY = (".npz", ".npy")


def open_scan(path: str | os.PathLike[str]) -> ScanFile:
    """Open a scan file; what it holds tells its format, not its name.

    Args:
        path: of the file; of pty-chi's pair, either one.

    Raises:
        ScanFileError: one line that says what is wrong: no such file, not HDF5, which dataset is missing or
            does not fit the others.
    """
    where = Path(path)
    opened = ExitStack()
    try:
        with readable(where):
            return _read(where, opened)
    except ScanFileError:
        opened.close()
        raise


def _read(path: Path, opened: ExitStack) -> ScanFile:
    if path.suffix in _NUMPY:
        raise ScanFileError(f"{path}: frames without positions: only training reads PtychoNN's npz and npy")
    file = open_hdf5(path, opened)
    if ptyd.recognises(file):
        return ptyd.read(path, file, opened)
    if ptychi.recognises(file):
        return ptychi.read(path, file, opened)
    if recorded.recognises(file):
        return recorded.read(path, file, opened)
    return cxi.read(path, file, opened)
