"""Room on the disk for a file that grows, asked for before it is needed.

HDF5 crashes the process where a disk fills up, or a quota is reached, under a file that it writes. So the
room is reserved ahead of it, and when there is none the file still has enough to be ended well.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

_STEP_BYTES: Final = 64 << 20
_LAST_BYTES: Final = 4 << 20  # for the tables that end a file
_END_OF_FILE: Final = struct.Struct("<Q")
_END_OF_FILE_AT: Final = 28  # HDF5 File Format Specification 3.0, II.A: superblock of version 2 or 3


class ReservedFile:
    """A file that is not written beyond the room it has.

    Args:
        path: of the file, which is made or emptied.
        content: what it begins with.

    Raises:
        OSError: it cannot be made, or there is no room for the first step; nothing is left behind.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._reserved = 0
        self._used = 0
        try:
            self.take(len(content))
            os.pwrite(self._file, content, 0)
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def take(self, nbytes: int) -> None:
        """Make sure that so many bytes can be written now, and the end after them.

        Raises:
            OSError: there is no room for them; what was taken before can still be written, and the end.
        """
        used = self._used + nbytes
        if used + _LAST_BYTES > self._reserved:
            step = used + _LAST_BYTES - self._reserved + _STEP_BYTES
            os.posix_fallocate(self._file, self._reserved, step)
            self._reserved += step
        self._used = used

    def close(self, *, trim: bool) -> None:
        """Give back what was not needed of the room, if told to; only once HDF5 has closed the file."""
        if trim:
            (end,) = _END_OF_FILE.unpack(os.pread(self._file, _END_OF_FILE.size, _END_OF_FILE_AT))
            os.ftruncate(self._file, end)
        os.close(self._file)
