"""What an operator asks of the running journey: done by the thread that owns it, between two messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.errors import EngineError, PtycholiveError

_POLL_S = 0.1
_PATIENCE_S = 60.0


@dataclass(slots=True, eq=False)
class _Order:
    work: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    refusal: PtycholiveError | None = None


class Orders:
    """Hands work from any thread to the journey's; one order at a time.

    Args:
        stopping: set when the service stops, and nobody carries out orders any more.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._waiting: _Order | None = None
        self._one_at_a_time = threading.Lock()

    def ask(self, work: Callable[[], None]) -> None:
        """Have something done, and wait until it is.

        Raises:
            PtycholiveError: what the work itself raised.
            EngineError: its turn did not come: the service is overloaded, or stopping.
        """
        with self._one_at_a_time:
            self._waiting = order = _Order(work)
            self._await(order)
        if order.refusal is not None:
            raise order.refusal

    def carry_out(self) -> None:
        """Do what is asked, if anything; called by the journey's thread."""
        order, self._waiting = self._waiting, None
        if order is None:
            return
        try:
            order.work()
        except PtycholiveError as refusal:
            order.refusal = refusal
        order.done.set()

    def _await(self, order: _Order) -> None:
        patience_s = time.monotonic() + _PATIENCE_S
        while not order.done.wait(_POLL_S):
            if self._stopping.is_set() or time.monotonic() > patience_s:
                self._waiting = None
                raise EngineError("the order was not carried out: is the service overloaded, or stopping?")
