"""Where every frame of one scan ended.

A frame is received, decoded, joined, inferred and ends in exactly one place: stitched, or dropped with one
reason. The ledger holds one byte a frame, so that a second ending is found and the sums are true by
construction.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEVER_ARRIVED = "never_arrived"
SERVICE_DOWN = "service_down"
UNFINISHED = "unfinished"

_RECEIVED, _DECODED, _JOINED, _INFERRED, _STITCHED, _DROPPED = (1 << bit for bit in range(6))
_STAGES = (_DECODED, _JOINED, _INFERRED, _STITCHED, _DROPPED)
_ENDED = _STITCHED | _DROPPED
_DOWN = 1 << 6  # dropped, as the service went down while it had the frame
_FIRST_CAPACITY = 1024
_RANGES_IN_WORDS = 8
_STEPS_TO_JUDGE, _MOST_STEPS = 16, 0.9  # between arrived frames: how many, and what share, show a pattern

Indices = int | Iterable[int] | NDArray[np.int64]
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """A snapshot of the ledger of one scan.

    Attributes:
        expected: frames the scan should have; None while the scan is open and nobody has said.
        received: frame messages that came, second copies included.
        decoded, joined, inferred, stitched: frames that passed each stage.
        duplicates: second copies, thrown away.
        dropped: frames that ended without being stitched, by reason.
        announced: the number announced, where a frame beyond it came; otherwise None.
        never_arrived: the first few inclusive ranges of frames that never came; empty until closed.
    """

    expected: int | None
    received: int
    decoded: int
    joined: int
    inferred: int
    stitched: int
    duplicates: int
    dropped: dict[str, int]
    announced: int | None = None
    never_arrived: Ranges = ()

    @property
    def balanced(self) -> bool:
        """Whether every expected and every received frame ended in exactly one place."""
        ended = self.stitched + sum(self.dropped.values())
        arrived = ended - self.dropped.get(NEVER_ARRIVED, 0)
        return self.expected == ended and self.received == arrived + self.duplicates

    def as_dict(self) -> dict[str, Any]:
        """Return the counts under their public names, ready for JSON."""
        return {
            "expected": self.expected,
            "received": self.received,
            "decoded": self.decoded,
            "joined": self.joined,
            "inferred": self.inferred,
            "stitched": self.stitched,
            "duplicates": self.duplicates,
            "dropped": dict(self.dropped),
        }

    def in_words(self, done: str = "stitched") -> str:
        """Return one line for the operator, e.g. `97 of 100 frames stitched; 3 never arrived: 4, 7–8`."""
        total = "?" if self.expected is None else self.expected
        clauses = [f"{self.stitched} of {total} frames {done}", *self._losses()]
        if self.duplicates:
            clauses.append(f"{_frames(self.duplicates)} came twice")
        if self.announced is not None:
            clauses.append(f"only {_frames(self.announced)} had been announced")
        return "; ".join(clauses)

    def _losses(self) -> list[str]:
        absent = self.dropped.get(NEVER_ARRIVED, 0)
        losses = [f"{_frames(absent)} never arrived: {self._absent_in_words(absent)}"] if absent else []
        reasons = sorted(reason for reason in self.dropped if reason != NEVER_ARRIVED)
        return losses + [f"{_frames(self.dropped[reason])} dropped: {reason}" for reason in reasons]

    def _absent_in_words(self, absent: int) -> str:
        ranges = [f"{first}" if first == last else f"{first}–{last}" for first, last in self.never_arrived]
        listed = sum(last - first + 1 for first, last in self.never_arrived)
        return ", ".join(ranges) + (" …" if listed < absent else "")


@dataclass(frozen=True, slots=True, eq=False)
class LedgerState:
    """All that an open ledger knows of the frames that have ended; those under way are left out.

    Attributes:
        fates: (n,) uint8, what became of frame 0, 1, …; 0 where it has not ended.
        dropped: frames by reason.
        expected, announced, duplicates: as in `LedgerCounts`.
    """

    fates: NDArray[np.uint8]
    dropped: dict[str, int]
    expected: int | None
    announced: int | None
    duplicates: int

    @property
    def stitched(self) -> NDArray[np.int64]:
        """Numbers of the stitched frames, ascending."""
        return np.flatnonzero(self.fates & _STITCHED)


class Ledger:
    """The ledger of one scan; one thread writes, any thread may call `counts` and `missing`.

    Breaking the order (a stage passed twice, an ending without an arrival, a second ending) is a bug of the
    caller and raises ValueError with nothing changed.
    """

    def __init__(self, expected: int | None) -> None:
        self._lock = threading.RLock()
        self._state = np.zeros(_FIRST_CAPACITY, np.uint8)
        self._end = 0  # highest frame number received, plus one
        self._expected = expected
        self._announced: int | None = None
        self._distinct = 0
        self._duplicates = 0
        self._passed: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()
        self._never_arrived: Ranges = ()
        self._closed = False

    @classmethod
    def restored(cls, state: LedgerState) -> Ledger:
        """Return the open ledger that a state was taken of.

        Raises:
            ValueError: its numbers contradict each other.
        """
        fates, ledger = state.fates, cls(state.expected)
        dropped = int(np.count_nonzero(fates & _DROPPED))
        if np.any((fates != 0) & (fates & _ENDED == 0)) or dropped != sum(state.dropped.values()):
            raise ValueError("a ledger in which frames neither ended nor wait")
        ledger._reserve(len(fates))
        ledger._state[: len(fates)] = fates
        ledger._distinct = int(np.count_nonzero(fates))
        ledger._passed.update({stage: int(np.count_nonzero(fates & stage)) for stage in _STAGES})
        ledger._dropped.update(state.dropped)
        ledger._announced, ledger._duplicates = state.announced, state.duplicates
        return ledger

    def state(self) -> LedgerState:
        """Return what is to be kept for `restored`."""
        with self._lock:
            fates = self._state[: self._end].copy()
            fates[fates & _ENDED == 0] = 0
            return LedgerState(fates, dict(self._dropped), self._expected, self._announced, self._duplicates)

    @property
    def closed(self) -> bool:
        """Whether the scan is over."""
        return self._closed

    def expect(self, frames: int) -> None:
        """Note that the scan has this many frames; it raises an earlier number and never lowers it.

        An aborted scan that ends before its announced number is so shown as short.
        """
        with self._lock:
            self._refuse_when_closed()
            self._expected = max(frames, self._expected or 0, self._end)
            if frames >= self._end:
                self._announced = None

    def receive(self, index: int) -> bool:
        """Note the arrival of a frame; False for a second copy, which the caller throws away."""
        if index < 0:
            raise ValueError(f"frame number {index} is negative")
        with self._lock:
            self._refuse_when_closed()
            self._reserve(index + 1)
            if self._state[index]:
                self._duplicates += 1
                return bool(self._state[index] & _DOWN) and self._recover(index)
            self._state[index] = _RECEIVED
            self._distinct += 1
            return True

    def recall(self, arrivals: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Take note of how often each frame came before the service went down; return those that it lost.

        They stand under `SERVICE_DOWN` until they come again.

        Args:
            arrivals: (n,) uint8, how often frame 0, 1, … came.
        """
        with self._lock:
            self._refuse_when_closed()
            self._reserve(len(arrivals))
            lost = np.flatnonzero((arrivals > 0) & (self._state[: len(arrivals)] == 0))
            self._state[lost] = _RECEIVED | _DROPPED | _DOWN
            self._distinct += len(lost)
            self._passed[_DROPPED] += len(lost)
            self._count_drops(SERVICE_DOWN, len(lost))
            self._duplicates = int(np.maximum(arrivals, 1).sum(dtype=np.int64)) - len(arrivals)
            return np.flatnonzero(self._state[: self._end] & _DOWN)

    def reopen(self, index: int) -> None:
        """Take back that a frame was lost when the service went down: a copy of it was found."""
        with self._lock:
            self._recover(index)
            self._state[index], self._distinct = 0, self._distinct - 1

    def decode(self, indices: Indices) -> None:
        """Note that the pixels of these frames were decoded."""
        self._pass(indices, _DECODED)

    def join(self, indices: Indices) -> None:
        """Note that these frames have met their positions."""
        self._pass(indices, _JOINED)

    def infer(self, indices: Indices) -> None:
        """Note that the network has predicted the tiles of these frames."""
        self._pass(indices, _INFERRED)

    def stitch(self, indices: Indices) -> None:
        """Note that these frames ended in the mosaic."""
        self._pass(indices, _STITCHED)

    def drop(self, indices: Indices, reason: str) -> None:
        """Note that these received frames ended for this reason (a word, such as `no_position`)."""
        if reason == NEVER_ARRIVED:
            raise ValueError("only close() knows which frames never arrived")
        with self._lock:
            self._count_drops(reason, self._pass(indices, _DROPPED))

    def close(self) -> None:
        """End the scan: what never came and what never ended is dropped under a reason of its own.

        A second call changes nothing, as some detectors send their end twice.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._expected = self._end if self._expected is None else self._expected
            self._never_arrived = self._missing(_RANGES_IN_WORDS)
            self._count_drops(NEVER_ARRIVED, self._expected - self._distinct)
            self._drop_unfinished()

    def counts(self) -> LedgerCounts:
        """Return a snapshot."""
        with self._lock:
            return LedgerCounts(
                expected=self._expected,
                received=self._distinct + self._duplicates,
                decoded=self._passed[_DECODED],
                joined=self._passed[_JOINED],
                inferred=self._passed[_INFERRED],
                stitched=self._passed[_STITCHED],
                duplicates=self._duplicates,
                dropped=dict(self._dropped),
                announced=self._announced,
                never_arrived=self._never_arrived,
            )

    def missing(self, limit: int) -> Ranges:
        """Return the first `limit` inclusive ranges of expected frames that have not come so far."""
        with self._lock:
            return self._missing(limit)

    def gaps(self, limit: int) -> Ranges:
        """Return the first `limit` inclusive ranges of frames that have not come though later ones have."""
        with self._lock:
            return tuple(gap for gap in self._missing(limit) if gap[0] < self._end)

    def stride(self, newest: int | None = None) -> int:
        """Return k where only every k-th frame came, as when k clients pull from one detector; else 1.

        Args:
            newest: look at so many of the newest frame numbers only, and not before half of them have passed:
                in the middle of a scan some frames may still be under way. None: look at all.
        """
        with self._lock:
            begin = 0 if newest is None else max(0, self._end - newest)
            came = np.flatnonzero(self._state[begin : self._end])
        if len(came) <= _STEPS_TO_JUDGE or self._end - begin < (newest or 0) // 2:
            return 1
        steps = np.diff(came)
        middle = len(steps) // 2
        usual = int(np.partition(steps, middle)[middle])
        return usual if np.mean(steps == usual) > _MOST_STEPS else 1

    def _recover(self, index: int) -> bool:
        """Let a frame that was lost with the service begin anew: it is received."""
        if not self._state[index] & _DOWN:
            raise ValueError(f"frame {index} was not lost with the service")
        self._state[index] = _RECEIVED
        self._passed[_DROPPED] -= 1
        self._dropped[SERVICE_DOWN] -= 1
        self._dropped += Counter()  # without reasons that hold for no frame any more
        return True

    def _pass(self, indices: Indices, stage: int) -> int:
        """Mark a stage in the state of each frame; return how many."""
        if isinstance(indices, int):
            return self._pass_one(indices, stage)
        numbers = np.atleast_1d(np.asarray(_listed(indices), np.int64))
        with self._lock:
            self._refuse_unfit(numbers, stage)
            self._state[numbers] |= stage
            self._passed[stage] += len(numbers)
        return len(numbers)

    def _pass_one(self, number: int, stage: int) -> int:
        """Do the same for one frame, in a tenth of the time: it is called for every frame that comes."""
        with self._lock:
            state = int(self._state[number]) if 0 <= number < self._end else 0
            if state & (_RECEIVED | _ENDED | stage) != _RECEIVED:
                raise ValueError(f"frame {number} cannot pass: {self._trouble(number)}")
            self._state[number] = state | stage
            self._passed[stage] += 1
        return 1

    def _refuse_unfit(self, numbers: NDArray[np.int64], stage: int) -> None:
        if len(numbers) > 1 and len(np.unique(numbers)) < len(numbers):
            raise ValueError("a frame is named twice in one call")
        state = self._state.take(numbers, mode="clip")  # what lies outside is found by its number
        unfit = (state & (_RECEIVED | _ENDED | stage) != _RECEIVED) | (numbers < 0) | (numbers >= self._end)
        if unfit.any():
            number = int(numbers[np.argmax(unfit)])
            raise ValueError(f"frame {number} cannot pass: {self._trouble(number)}")

    def _trouble(self, number: int) -> str:
        state = int(self._state[number]) if 0 <= number < self._end else 0
        if not state & _RECEIVED:
            return "it was never received"
        return "it has already ended" if state & _ENDED else "it has already passed this stage"

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ValueError("the ledger of this scan is closed")

    def _reserve(self, end: int) -> None:
        """Make room for frames below `end`, by doubling, and raise `expected` where it was too low."""
        if end > len(self._state):
            grown = np.zeros(max(end, 2 * len(self._state)), np.uint8)
            grown[: self._end] = self._state[: self._end]
            self._state = grown
        self._end = max(self._end, end)
        if self._expected is not None and end > self._expected:
            self._announced = self._expected if self._announced is None else self._announced
            self._expected = end

    def _drop_unfinished(self) -> None:
        state = self._state[: self._end]
        unfinished = (state & _RECEIVED != 0) & (state & _ENDED == 0)
        state[unfinished] |= _DROPPED
        self._count_drops(UNFINISHED, int(np.count_nonzero(unfinished)))

    def _count_drops(self, reason: str, frames: int) -> None:
        if frames:
            self._dropped[reason] += frames

    def _missing(self, limit: int) -> Ranges:
        absent = np.zeros(self._end + 2, np.int8)
        absent[1:-1] = self._state[: self._end] == 0
        edges = np.flatnonzero(np.diff(absent))
        ranges = [(int(first), int(stop) - 1) for first, stop in edges.reshape(-1, 2)[:limit]]
        if self._expected is not None and self._expected > self._end:
            # the tail is arithmetic: a forged number of expected frames must cost no memory
            ranges.append((self._end, self._expected - 1))
        return tuple(ranges[:limit])


def _listed(indices: Indices) -> int | list[int] | NDArray[np.int64]:
    return indices if isinstance(indices, int | np.ndarray) else list(indices)


def _frames(number: int) -> str:
    return f"{number} frame" if number == 1 else f"{number} frames"
