"""What work takes: seconds on the wall, and of the processor, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that work took; those of its parts add up.

    Attributes:
        wall_s: that passed.
        processor_s: that all threads of this process together were at work.
    """

    wall_s: float = 0.0
    processor_s: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall_s + other.wall_s, self.processor_s + other.processor_s)


def timed(work: Callable[[], Result]) -> tuple[Result, Spent]:
    """Return what came of some work, and what it took."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, Spent(time.perf_counter() - wall, time.process_time() - processor)
