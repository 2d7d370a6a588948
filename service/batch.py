"""Frames → batches: what has come while the engine ran, up to a size and no later than a deadline.

At little load a frame goes through alone; as the load grows so do the batches, until they are full. Time
comes in as a value.
"""

from __future__ import annotations

from service.messages import Batch, Frame


class Batcher:
    """Collects frames of one scan until the batch is full, an engine is idle or a frame has waited enough.

    Args:
        scan: the scan that all its frames belong to.
        size: frames in a full batch, at least 1.
        deadline_s: how long a frame may wait for an engine to be idle or the batch to fill.
    """

    def __init__(self, scan: str, size: int, deadline_s: float) -> None:
        if size < 1:
            raise ValueError(f"a batch holds at least one frame, not {size}")
        self._scan = scan
        self._size = size
        self._deadline_s = deadline_s
        self._frames: list[Frame] = []
        self._wake_s: float | None = None

    @property
    def wake_s(self) -> float | None:
        """When `due` will give a batch at the latest, on the caller's clock; None while no frame waits."""
        return self._wake_s

    def add(self, frame: Frame, now_s: float) -> Batch | None:
        """Take a frame; return the batch when this frame fills it."""
        if self._wake_s is None:
            self._wake_s = now_s + self._deadline_s
        self._frames.append(frame)
        return self.flush() if len(self._frames) == self._size else None

    def due(self, now_s: float, *, idle: bool = False) -> Batch | None:
        """Return the partial batch when its oldest frame has waited for the deadline, or at once.

        Args:
            now_s: on the caller's clock.
            idle: an engine has nothing to do, and no other frame is there to join the batch.
        """
        waited = self._wake_s is not None and now_s >= self._wake_s
        return self.flush() if idle or waited else None

    def flush(self) -> Batch | None:
        """Return what has been collected, None when nothing has."""
        if not self._frames:
            return None
        batch = Batch(self._scan, tuple(self._frames))
        self._frames = []
        self._wake_s = None
        return batch
