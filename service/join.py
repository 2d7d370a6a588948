"""Images + positions → frames, by frame number.

The two streams may come in any order and lose messages; an image meets its position once, becomes a
`Frame`, and the two are never separated again. Time comes in as a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from service.errors import MessageError
from service.messages import Float64, Frame, Image, Positions

_FIRST_CAPACITY = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    image: Image
    since_s: float


class Joiner:
    """Joins the two streams of one scan.

    Second copies of an image are the ledger's to find: the joiner forgets an image as soon as it is joined.

    Args:
        deadline_s: how long an image may wait for its position.
        max_waiting: how many images may wait at once; beyond, `expire` gives up the oldest.
        max_frames: frame numbers of positions lie below this; it bounds the memory that a peer can claim.
        max_bytes: what the images that wait may take; beyond, `expire` gives up the oldest.
    """

    def __init__(
        self, deadline_s: float, max_waiting: int, max_frames: int, max_bytes: int = 1 << 29
    ) -> None:
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._waiting: dict[int, _Waiting] = {}  # in order of arrival
        self._positions_m = _unknown(min(_FIRST_CAPACITY, max_frames))

    @property
    def waiting(self) -> int:
        """How many images wait for their position."""
        return len(self._waiting)

    def positions_m(self) -> Float64:
        """Return (n, 2) positions y, x of frame 0, 1, … up to the last that is known; NaN where none is."""
        known = np.flatnonzero(~np.isnan(self._positions_m[:, 0]))
        return self._positions_m[: int(known[-1]) + 1 if len(known) else 0].copy()

    def add_image(self, image: Image, now_s: float) -> Frame | None:
        """Return the frame where the position is known; otherwise let the image wait."""
        if self._knows(image.index):
            return self._frame(image)
        if image.index not in self._waiting:
            self._waiting[image.index] = _Waiting(_alone(image), now_s)
            self._held_bytes += image.counts.nbytes
        return None

    def add_positions(self, positions: Positions) -> list[Frame]:
        """Take row i as the position of frame `first` + i; return the frames that were waiting for it.

        Non-finite rows are unknown positions; a position that is already known is kept.

        Raises:
            MessageError: the rows are no (n, 2), or a frame number is outside 0 … max_frames − 1.
        """
        numbers = self._numbers(positions)
        self._reserve(numbers.stop)
        known = self._positions_m[numbers.start : numbers.stop]
        fresh = np.isnan(known[:, 0]) & np.isfinite(positions.positions_m).all(axis=1)
        known[fresh] = positions.positions_m[fresh]
        return [self._frame(self._taken(index)) for index in self._matched(numbers)]

    def forget_positions(self) -> None:
        """Forget all positions: they were those of another capture."""
        self._positions_m[:] = np.nan

    def why_without_position(self, index: int) -> str:
        """Return one line for the operator on a frame whose position did not come."""
        known = np.flatnonzero(np.isfinite(self._positions_m[:, 0]))
        if not len(known):
            return "frames came without positions: are detector and position stream both armed?"
        first, last = int(known[0]), int(known[-1])
        if index < first:
            counts = "does it count from 1?" if first == 1 else "was its source armed, and heard, in time?"
            return f"positions begin at frame {first}, frames before: {counts}"
        if index > last:
            return f"positions end at frame {last}, frames go on: was their source stopped too early?"
        return f"no position came for frame {index}, but for later ones: was a packet of positions lost?"

    def expire(self, now_s: float) -> list[Image]:
        """Give up the images past the deadline, and the oldest beyond what may wait; oldest first.

        Called after every message or tick, it bounds the memory of the joiner.
        """
        late = 0
        for waiting in self._waiting.values():
            if now_s - waiting.since_s < self._deadline_s:
                break
            late += 1
        given_up = self._give_up(max(late, len(self._waiting) - self._max_waiting))
        while self._held_bytes > self._max_bytes:
            given_up += self._give_up(1)
        return given_up

    def flush(self) -> list[Image]:
        """Give up all images that wait, oldest first."""
        return self._give_up(len(self._waiting))

    def _give_up(self, number: int) -> list[Image]:
        oldest = list(self._waiting)[:number] if number > 0 else []
        return [self._taken(index) for index in oldest]

    def _taken(self, index: int) -> Image:
        image = self._waiting.pop(index).image
        self._held_bytes -= image.counts.nbytes
        return image

    def _knows(self, index: int) -> bool:
        return index < len(self._positions_m) and not math.isnan(self._positions_m.item(index, 0))

    def _frame(self, image: Image) -> Frame:
        y_m, x_m = self._positions_m[image.index].tolist()
        return Frame(image.index, image.counts, y_m, x_m, image.received_ns)

    def _matched(self, numbers: range) -> list[int]:
        few = numbers if len(numbers) < len(self._waiting) else sorted(self._waiting)
        return [n for n in few if n in numbers and n in self._waiting and self._knows(n)]

    def _numbers(self, positions: Positions) -> range:
        rows = positions.positions_m
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise MessageError(
                f"positions have shape {rows.shape}, not (frames, 2): check the y and x columns"
            )
        numbers = range(positions.first, positions.first + len(rows))
        if numbers.start < 0 or numbers.stop > self._max_frames:
            raise MessageError(
                f"positions of frames {numbers.start} to {numbers.stop - 1} are outside the "
                f"{self._max_frames} frames a scan may have: check the frame number of the position stream"
            )
        return numbers

    def _reserve(self, frames: int) -> None:
        size = len(self._positions_m)
        if frames > size:
            grown = _unknown(min(max(frames, 2 * size), self._max_frames))
            grown[:size] = self._positions_m
            self._positions_m = grown


def _alone(image: Image) -> Image:
    """Return an image that keeps no others in memory: those that came in its message."""
    whole = image.counts.base
    shared = isinstance(whole, np.ndarray) and whole.nbytes > image.counts.nbytes
    return msgspec.structs.replace(image, counts=image.counts.copy(), packed=None) if shared else image


def _unknown(frames: int) -> Float64:
    return np.full((frames, 2), np.nan)
