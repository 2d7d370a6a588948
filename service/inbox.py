"""The one queue between the sockets and the reconstruction: bounded in bytes, it pushes back."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable

from service.messages import Event, Image, Rejected


class Inbox:
    """A first-in, first-out queue of events that holds at most a budget of bytes.

    Receivers wait while it is full; so ZMQ's own queue fills, and then the sender's: nothing is lost here.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._held = 0
        self._frames = 0
        self._events: deque[tuple[tuple[Event, ...], int]] = deque()
        self._changed = threading.Condition()

    @property
    def frames(self) -> int:
        """How many frames wait."""
        return self._frames

    def put(self, events: tuple[Event, ...], nbytes: int, timeout_s: float) -> bool:
        """Append what one message said; False when there was no room in time.

        Args:
            events: what it said.
            nbytes: size of the message as it came; what its pixels take unpacked counts, if it is more.
            timeout_s: how long to wait for room.
        """
        nbytes = max(nbytes, _unpacked_bytes(events))
        with self._changed:
            if not self._changed.wait_for(lambda: self._fits(nbytes), timeout_s):
                return False
            self._events.append((events, nbytes))
            self._held += nbytes
            self._frames += _frames(events)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float) -> tuple[Event, ...]:
        """Return what the oldest message said, nothing when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._events), timeout_s):
                return ()
            events, nbytes = self._events.popleft()
            self._held -= nbytes
            self._frames -= _frames(events)
            self._changed.notify_all()
            return events

    def lift(self) -> None:
        """Take what comes from now on without a budget: the service stops, and no receiver may be stuck."""
        with self._changed:
            self._budget = sys.maxsize
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._events)

    def _fits(self, nbytes: int) -> bool:
        # one message larger than the budget is let through an empty queue rather than blocked for ever
        return not self._events or self._held + nbytes <= self._budget


def _unpacked_bytes(events: Iterable[Event]) -> int:
    return sum(event.counts.nbytes for event in events if isinstance(event, Image))


def _frames(events: Iterable[Event]) -> int:
    return sum(isinstance(event, Image | Rejected) for event in events)
