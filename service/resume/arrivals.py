"""How often each frame of a scan came out of the socket, in a file that outlives the process.

The file is mapped into memory: to note a frame is to write one byte, and what is written stays with the
kernel when the process is killed.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FIRST_ROOM: Final = 1 << 16  # frames
_MOST: Final = 255  # copies of a frame that can be told


class Arrivals:
    """One byte a frame.

    Attributes:
        any: whether a frame has come.

    Args:
        path: of the file; what it holds goes on.

    Raises:
        OSError: it cannot be made, or there is no room.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = os.fstat(self._file).st_size
            room = max(held, _FIRST_ROOM)
            os.posix_fallocate(self._file, 0, room)  # to write into a hole of a full disk would be the end
            self._counts = mmap.mmap(self._file, room)
        except OSError:
            os.close(self._file)
            raise
        self._lock = threading.Lock()  # the scan may end in one thread while its last copies come in another
        self.any = held > 0 and bool(read_arrivals(path).any())

    def note(self, index: int) -> None:
        """Count a copy of a frame.

        Raises:
            OSError: there is no room for so many frames.
        """
        with self._lock:
            if self._counts.closed:
                return
            if index >= len(self._counts):
                self._grow(index + 1)
            count = self._counts[index]
            if count < _MOST:
                self._counts[index] = count + 1
            self.any = True

    def close(self) -> None:
        """Close the file; what is noted after that goes nowhere."""
        with self._lock:
            if not self._counts.closed:
                self._counts.close()
                os.close(self._file)

    def _grow(self, frames: int) -> None:
        room = max(frames, 2 * len(self._counts))
        os.posix_fallocate(self._file, 0, room)
        self._counts.resize(room)


def read_arrivals(path: Path) -> NDArray[np.uint8]:
    """Return (n,) how often frame 0, 1, … came, up to the last that did.

    Raises:
        OSError: the file cannot be read.
    """
    counts = np.frombuffer(path.read_bytes(), np.uint8)
    came = np.flatnonzero(counts)
    return counts[: int(came[-1]) + 1 if len(came) else 0]
