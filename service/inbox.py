"""The one queue between the sockets and the reconstruction: bounded in bytes, it pushes back or drops."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from service.messages import Event, Image, Positions, Rejected

OVERLOAD: Final = "overload"
"""The ledger's word for frames that came faster than they could be reconstructed."""

_EVENT_BYTES: Final = 512  # that an event takes beside its arrays


class Inbox:
    """A first-in, first-out queue of events that holds at most a budget of bytes.

    Receivers wait while it is full; so ZMQ's own queue fills, and then the sender's: nothing is lost here.
    Or they do not wait, and of the frames that find no room only their numbers go in.

    Args:
        budget_bytes: what may wait.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._most = budget_bytes
        self._budget = budget_bytes
        self._held = 0
        self._frames = 0
        self._events: deque[tuple[tuple[Event, ...], int]] = deque()
        self._changed = threading.Condition()
        self._woken = False

    @property
    def frames(self) -> int:
        """How many frames wait."""
        return self._frames

    def put(self, events: tuple[Event, ...], nbytes: int, timeout_s: float) -> bool:
        """Append what one message said; False when there was no room in time.

        Args:
            events: what it said.
            nbytes: size of the message as it came; what its arrays take unpacked counts, if it is more.
            timeout_s: how long to wait for room.
        """
        nbytes = _held_bytes(events, nbytes)
        with self._changed:
            if not self._changed.wait_for(lambda: self._fits(nbytes), timeout_s):
                return False
            self._append(events, nbytes)
            return True

    def put_or_drop(self, events: tuple[Event, ...], nbytes: int) -> None:
        """Append what one message said, at once; without room only the numbers of its frames.

        What is no frame always goes in: it is little, and a start or an end must not be lost.
        """
        with self._changed:
            held = _held_bytes(events, nbytes)
            if not self._fits(held):
                events = tuple(map(self._dropped, events))
                held = _held_bytes(events, 0)
            self._append(events, held)

    @property
    def held_bytes(self) -> int:
        """What the events take that wait."""
        return self._held

    def get(self, timeout_s: float) -> tuple[Event, ...]:
        """Return what the oldest message said, nothing when none came in time or `wake` was called."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events) or self._woken, timeout_s)
            self._woken = False
            if not self._events:
                return ()
            events, nbytes = self._events.popleft()
            self._held -= nbytes
            self._frames -= _frames(events)
            self._changed.notify_all()
            return events

    def wake(self) -> None:
        """Have whoever gets, or gets next, not wait: something else has come for it."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def lift(self) -> None:
        """Take what comes from now on without a budget: the service stops, and no receiver may be stuck."""
        with self._changed:
            self._budget = sys.maxsize
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._events)

    def _append(self, events: tuple[Event, ...], nbytes: int) -> None:
        self._events.append((events, nbytes))
        self._held += nbytes
        self._frames += _frames(events)
        self._changed.notify_all()

    def _dropped(self, event: Event) -> Event:
        if not isinstance(event, Image):
            return event
        why = (
            f"frames come faster than they are reconstructed, and {self._most >> 20} MiB of them wait: lower "
            "the frame rate, raise inbox_mib, or set overload to wait"
        )
        return Rejected(event.scan, event.index, OVERLOAD, why)

    def _fits(self, nbytes: int) -> bool:
        # one message larger than the budget is let through an empty queue rather than blocked for ever
        return not self._events or self._held + nbytes <= self._budget


def _held_bytes(events: tuple[Event, ...], nbytes: int) -> int:
    return max(nbytes, sum(map(_array_bytes, events))) + _EVENT_BYTES * len(events)


def _array_bytes(event: Event) -> int:
    if isinstance(event, Image):
        return event.counts.nbytes
    return event.positions_m.nbytes if isinstance(event, Positions) else 0


def _frames(events: Iterable[Event]) -> int:
    return sum(isinstance(event, Image | Rejected) for event in events)
