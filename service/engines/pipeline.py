"""Batches that overlap: while one is computed, the next is copied to the device and the last one back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from service.engine import Inferred
from service.errors import EngineError

OFTEN: Final = 3
"""A size of batches that comes so often is worth its preparation."""

_SIZES: Final = 4


class Lane(Protocol):
    """Memory and a stream of a device; holds one batch at a time."""

    def begin(self, counts: NDArray[Any]) -> None:
        """Have a batch computed, and do not wait for it.

        Raises:
            EngineError: the device refuses.
        """
        ...

    def finish(self) -> Inferred:
        """Wait for the batch; return what the network says of it, in memory that nobody writes to again.

        Raises:
            EngineError: the device failed.
        """
        ...


class Pipeline:
    """Deals batches out to lanes; they come back in order. Any thread may submit.

    Args:
        lanes: at least one. Whoever submits waits while all hold a batch.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self._in_turn = Lock()  # batches are begun in the order in which they are read
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="device")

    def submit(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Have a batch (n, 1, H, W) computed; the future fails with EngineError where the device does."""
        with self._in_turn:
            lane = self._free.get()
            try:
                lane.begin(counts)
                return self._reader.submit(self._read, lane)
            except EngineError as error:
                self._free.put(lane)
                refused: Future[Inferred] = Future()
                refused.set_exception(error)
                return refused

    def close(self) -> None:
        """Wait for what is on its way and end the thread."""
        self._reader.shutdown()

    def _read(self, lane: Lane) -> Inferred:
        try:
            return lane.finish()
        finally:
            self._free.put(lane)


class UsualSizes:
    """Finds the sizes of batches that come again and again; only these are worth a graph of their own."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self._usual: set[int] = set()

    def are_with(self, frames: int) -> bool:
        """Note a batch; return whether its size is one of the usual."""
        if frames not in self._usual and len(self._usual) < _SIZES:
            self._seen[frames] += 1
            if self._seen[frames] >= OFTEN:
                self._usual.add(frames)
        return frames in self._usual
