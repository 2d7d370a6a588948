"""The last frames of the scan that runs or ran last, for whoever wants to see what the detector sees."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.messages import Float64

_PATH_FRAMES = 200


@dataclass(frozen=True, slots=True, eq=False)
class RecentFrame:
    """One diffraction pattern that is in the mosaic.

    Attributes:
        index: detector frame number within the scan.
        position_m: probe centre y, x.
        counts: (H, W) photons a pixel, zero frequency at the centre, as the network took them.
    """

    index: int
    position_m: tuple[float, float]
    counts: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    indices: NDArray[np.int64]
    positions_m: Float64
    counts: NDArray[Any]

    def frame(self, k: int) -> RecentFrame:
        y_m, x_m = self.positions_m[k].tolist()
        return RecentFrame(int(self.indices[k]), (y_m, x_m), self.counts[k])


class RecentFrames:
    """The last frames of one scan, as many as a number of bytes holds. One thread adds, any reads.

    Args:
        scan: its name.
        budget_bytes: what the frames may take; the newest batch stays in any case.
        invalid_counts: a count at or above this is no measurement: gap, dead or hot pixel.
        saturation: count at which the detector saturates, None where not told.
    """

    def __init__(
        self, scan: str, budget_bytes: int, invalid_counts: float, saturation: float | None = None
    ) -> None:
        self.scan = scan
        self.invalid_counts = invalid_counts
        self.saturation = saturation
        self.seen_frames = 0
        self.saturated_frames = 0  # of those, at least one pixel was saturated
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._batches: deque[_Batch] = deque()
        self._path_m: deque[list[float]] = deque(maxlen=_PATH_FRAMES)
        self._lock = threading.Lock()

    def add(self, indices: NDArray[np.int64], positions_m: Float64, counts: NDArray[Any]) -> None:
        """Take frames; the oldest go when there are too many.

        Args:
            indices: (n,) frame numbers.
            positions_m: (n, 2) probe centres y, x.
            counts: (n, H, W); kept, not copied.
        """
        saturated = self._saturated(counts)
        with self._lock:
            self.seen_frames += len(counts)
            self.saturated_frames += saturated
            self._path_m.extend(positions_m.tolist())
            self._batches.append(_Batch(indices, positions_m, counts))
            self._held_bytes += counts.nbytes
            while self._held_bytes > self._budget_bytes and len(self._batches) > 1:
                self._held_bytes -= self._batches.popleft().counts.nbytes

    def _saturated(self, counts: NDArray[Any]) -> int:
        if self.saturation is None:
            return 0
        reached = (counts >= self.saturation) & (counts < self.invalid_counts)
        return int(reached.any(axis=(1, 2)).sum())

    def path_m(self) -> Float64:
        """Return the probe centres of the last frames, (n, 2) y, x, oldest first; n is at most 200."""
        with self._lock:
            return np.array(self._path_m, np.float64).reshape(-1, 2)

    def newest(self) -> RecentFrame | None:
        """Return the frame that came last, None before the first."""
        batches = self._kept()
        return batches[-1].frame(-1) if batches else None

    def numbered(self, index: int) -> RecentFrame | None:
        """Return a frame by its number, None where it is not kept."""
        for batch in self._kept():
            found = np.flatnonzero(batch.indices == index)
            if len(found):
                return batch.frame(int(found[0]))
        return None

    def nearest(self, y_m: float, x_m: float) -> RecentFrame | None:
        """Return the kept frame whose probe was nearest to a place, None before the first."""
        batches = self._kept()
        if not batches:
            return None
        nearest = [_nearest_of(batch, y_m, x_m) for batch in batches]
        return min(nearest, key=lambda frame: _distance_m(frame, y_m, x_m))

    def _kept(self) -> list[_Batch]:
        with self._lock:
            return [batch for batch in self._batches if len(batch.indices)]


def _nearest_of(batch: _Batch, y_m: float, x_m: float) -> RecentFrame:
    squared = np.square(batch.positions_m - (y_m, x_m)).sum(axis=1)
    return batch.frame(int(squared.argmin()))


def _distance_m(frame: RecentFrame, y_m: float, x_m: float) -> float:
    return float(np.hypot(frame.position_m[0] - y_m, frame.position_m[1] - x_m))
