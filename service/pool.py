"""Engines that run the same bundle side by side: batches go out to them, and come back in any order.

The order does not matter to the mosaic: it is a sum.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Engine, Inferred
from service.errors import EngineError, WorkerLostError

log = logging.getLogger("ptycholive")

EACH = 2
"""Batches a worker holds by itself: one runs, the next is already there."""

_TRIES = 3  # a batch that took so many workers down with it is not given to another


class Worker(ABC):
    """One engine of a pool.

    Args:
        name: for the operator, e.g. "the worker on 10.0.0.7".
        room: batches that it holds at once.
    """

    def __init__(self, name: str, room: int = EACH) -> None:
        self.name = name
        self.room = room

    @abstractmethod
    def infer(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Begin to run raw counts (n, 1, H, W).

        The future fails with EngineError where the engine does, and with WorkerLostError where the worker is
        gone and has given nothing back.
        """

    def revive(self) -> Future[None]:
        """Have a lost worker come back; the future fails with WorkerLostError where it never will."""
        gone: Future[None] = Future()
        gone.set_exception(WorkerLostError(f"{self.name} is not started again"))
        return gone

    @abstractmethod
    def close(self) -> None:
        """Let go of it; it runs nothing."""


class InlineWorker(Worker):
    """An engine of this process, in the thread that submits: when that goes on, the batch is done."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(f"the engine on {engine.device}")
        self._engine = engine

    def infer(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Run raw counts (n, 1, H, W)."""
        found: Future[Inferred] = Future()
        try:
            found.set_result(self._engine.infer(counts))
        except EngineError as error:
            found.set_exception(error)
        return found

    def close(self) -> None:
        """Nothing is to be done."""


class ThreadWorker(Worker):
    """An engine of this process, in a thread of its own: libraries let go of the interpreter while they run.

    Args:
        engine: nobody else calls it.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(f"the engine on {engine.device}")
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    def infer(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Run raw counts (n, 1, H, W) after those that were given before."""
        return self._thread.submit(self._engine.infer, counts)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine whose device works beside the processor, so that batches overlap.

    Attributes:
        room: batches that it has on their way.
    """

    room: int

    def submit(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Begin to run raw counts (n, 1, H, W); the future fails as `infer` raises.

        Raises:
            EngineError: they are not what the engine takes.
        """
        ...

    def close(self) -> None:
        """Wait for what is on its way, and let go of the device."""
        ...


class DeviceWorker(Worker):
    """An engine of this process that needs no thread to be waited for in."""

    def __init__(self, engine: DeviceEngine) -> None:
        super().__init__(f"the engine on {engine.device}", engine.room)
        self._engine = engine

    def infer(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Run raw counts (n, 1, H, W) after those that were given before."""
        try:
            return self._engine.submit(counts)
        except EngineError as error:
            refused: Future[Inferred] = Future()
            refused.set_exception(error)
            return refused

    def close(self) -> None:
        """Let go of the device."""
        self._engine.close()


@dataclass(slots=True, eq=False)
class _Task:
    """A batch on its way: raw counts, what becomes of them, and how many workers it was given to."""

    counts: NDArray[Any]
    found: Future[Inferred] = field(default_factory=Future)
    tries: int = 0


class EnginePool:
    """Deals batches out to workers, and those of a lost worker to the others. It is an `Engine` itself.

    Any thread may submit.

    Args:
        bundle: what the workers run.
        backend, device: what they run with and on.
        workers: one at least.
        lost: is told a line when a worker is lost, and when it does not come back; by default the log is.

    Attributes:
        bundle, backend, device: as in `Engine`.
        most: batches that may be on their way before whoever submits should wait.
        wake: is called by any thread when a batch is done, or failed.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        device: str,
        workers: Sequence[Worker],
        lost: Callable[[str], None] = log.warning,
    ) -> None:
        self.bundle, self.backend, self.device = bundle, backend, device
        self.most = sum(worker.room for worker in workers)
        self.wake: Callable[[], None] = _nothing
        self._workers = tuple(workers)
        self._lost = lost
        self._waiting: deque[_Task] = deque()
        self._holds: dict[Worker, set[_Task]] = {worker: set() for worker in workers}  # who are here
        self._away: set[Worker] = set()  # lost, and perhaps coming back
        self._lock = threading.RLock()  # a batch may be done as soon as it is given away

    @property
    def here(self) -> int:
        """How many workers take batches now."""
        return len(self._holds)

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what one of the engines says of raw counts (n, 1, H, W).

        Raises:
            EngineError: it failed, or no worker is left.
        """
        return self.submit(counts).result()

    def submit(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Have raw counts (n, 1, H, W) run by whoever is free; the future fails as `infer` raises."""
        task = _Task(counts)
        with self._lock:
            self._waiting.append(task)
            self._deal()
        return task.found

    def close(self) -> None:
        """Let go of all workers; nothing must be on its way."""
        for worker in self._workers:
            worker.close()

    def _deal(self) -> None:
        """Give waiting batches to the workers that hold the fewest, as far as they have room."""
        while self._waiting and self._holds:
            free = [worker for worker in self._holds if len(self._holds[worker]) < worker.room]
            if not free:
                return
            worker = min(free, key=lambda one: len(self._holds[one]))
            task = self._waiting.popleft()
            task.tries += 1
            self._holds[worker].add(task)
            worker.infer(task.counts).add_done_callback(partial(self._done, worker, task))
        if not self._holds and not self._away:
            self._give_up()

    def _give_up(self) -> None:
        while self._waiting:
            self._waiting.popleft().found.set_exception(EngineError("no worker is left: the log says why"))

    def _done(self, worker: Worker, task: _Task, given: Future[Inferred]) -> None:
        error = given.exception()
        with self._lock:
            self._holds.get(worker, set()).discard(task)
            if isinstance(error, WorkerLostError):
                self._let_go(worker, error)
                self._send_again(task, error)
            elif error is not None:
                task.found.set_exception(error)
            else:
                task.found.set_result(given.result())
            self._deal()
        self.wake()

    def _send_again(self, task: _Task, error: WorkerLostError) -> None:
        if task.tries < _TRIES:
            self._waiting.appendleft(task)
        else:
            task.found.set_exception(EngineError(f"{_TRIES} workers were lost with a batch: {error}"))

    def _let_go(self, worker: Worker, error: WorkerLostError) -> None:
        if self._holds.pop(worker, None) is None:
            return  # another of its batches has told so
        self._away.add(worker)
        self._lost(f"{worker.name} is lost, others take its batches: {error}")
        worker.revive().add_done_callback(partial(self._revived, worker))

    def _revived(self, worker: Worker, back: Future[None]) -> None:
        error = back.exception()
        with self._lock:
            self._away.discard(worker)
            if error is None:
                self._holds[worker] = set()
                log.info("%s is back", worker.name)
            else:
                self._lost(f"{worker.name} does not come back: {error}")
            self._deal()


def _nothing() -> None:
    """Be told, and do nothing."""


def as_pool(engine: Engine) -> EnginePool:
    """Return a single engine as a pool of one; a pool as it is."""
    if isinstance(engine, EnginePool):
        return engine
    worker = DeviceWorker(engine) if isinstance(engine, DeviceEngine) else InlineWorker(engine)
    return EnginePool(engine.bundle, engine.backend, engine.device, [worker])


def beside_others(engine: Engine) -> Worker:
    """Return what runs an engine beside others of this process."""
    return DeviceWorker(engine) if isinstance(engine, DeviceEngine) else ThreadWorker(engine)
