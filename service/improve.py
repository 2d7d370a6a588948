"""An engine that is compiled beside the stream, and taken over at a batch border once it is ready."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from service.errors import PtycholiveError
from service.pool import EnginePool
from service.workforce import Workforce

log = logging.getLogger("ptycholive")

_POLL_S = 0.5

Swap = Callable[[EnginePool, EnginePool], None]


class Improver:
    """Looks at each engine that comes to run whether a faster one can be compiled for it.

    Args:
        workforce: compiles.
        current: tells which runs.
        swap: goes on with the second instead of the first; raises PtycholiveError where that cannot be.
    """

    def __init__(self, workforce: Workforce, current: Callable[[], EnginePool], swap: Swap) -> None:
        self._workforce = workforce
        self._current = current
        self._swap = swap

    def work(self, stopping: threading.Event) -> None:
        """Do so until the service stops."""
        looked_at = None
        while not stopping.wait(_POLL_S):
            if (running := self._current()) is not looked_at:
                looked_at = self._improve(running, stopping)

    def _improve(self, running: EnginePool, stopping: threading.Event) -> EnginePool:
        """Return what runs now, as far as this knows."""
        better = self._workforce.improved(running, stopping.is_set)
        if better is None:
            return running
        try:
            self._swap(running, better)
        except PtycholiveError as refusal:
            better.close()
            log.warning("the faster engine was not taken: %s", refusal)
            return running
        log.info("engine: %s on %s from now on", better.backend, better.device)
        return better
