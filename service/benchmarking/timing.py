"""What work took, and how two kinds of work compare that were done in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from service.engine import Engine

BATCH: Final = 16
"""Frames that go through an engine together where nothing else is said."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Spent:
    """What it took to handle frames.

    Attributes:
        frames: that were handled.
        wall_s: that passed.
        processor_s: that all threads of the process together were at work.
    """

    frames: int
    wall_s: float
    processor_s: float

    @property
    def rate_hz(self) -> float:
        """Frames a second."""
        return self.frames / self.wall_s

    @property
    def processor_s_a_frame(self) -> float:
        """Seconds of processor time that a frame took."""
        return self.processor_s / self.frames


def spent(frames: int, call: Callable[[], object]) -> Spent:
    """Return what a call takes that handles so many frames."""
    begun_s, at_work_s = time.perf_counter(), time.process_time()
    call()
    return Spent(frames, time.perf_counter() - begun_s, time.process_time() - at_work_s)


def infer_all(engine: Engine, counts: NDArray[Any], batch: int) -> None:
    """Run counts (n, 1, H, W) through an engine, so many at a time."""
    for k in range(0, len(counts), batch):
        engine.infer(counts[k : k + batch])
