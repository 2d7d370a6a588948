"""Workers on the machines of a Ray cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from model.bundle import Bundle
from service.cluster.remote_engine import RemoteEngine, Whereabouts, packed
from service.engine import Inferred
from service.engines.graph import one_line
from service.errors import ConfigError, EngineError, WorkerLostError
from service.pool import EnginePool, Worker

LOCAL, AUTO = "local", "auto"
RESTARTS = 8
"""How often Ray starts a worker's process anew."""

_ANSWER_S = 5.0  # within which a cluster must answer at its address
_PATIENCE_S = 120.0  # for workers to start, or one to come back
_RETRY_S = 0.2

Tell = Callable[[str], None]


class Cluster:
    """The workers that a service has on a Ray cluster, as long as it runs.

    Args:
        address: HOST:PORT of the cluster; "auto": the one that this machine is part of; "local": one of its
            own, of this machine alone.
        workers: how many; each has a GPU of its own where the cluster has enough for all.
        engine, threads: of each worker, as in `choose_engine`, but one thread for 0.
        plain: whether a cluster that asks nobody for a token will do.
        restarts: how often the process of each is started anew.

    Raises:
        ConfigError: there is no such cluster, or it does not let this machine in.
    """

    def __init__(
        self, address: str, workers: int, engine: str, threads: int, *, plain: bool, restarts: int = RESTARTS
    ) -> None:
        _join(address)
        if not (plain or _is_guarded()):
            ray.shutdown()
            raise ConfigError(
                f"the Ray cluster at {address!r} asks for no token: whoever reaches its ports can run code "
                "there. Start it, and this service, with RAY_AUTH_MODE=token, or set allow_plain_streams"
            )
        threads = max(threads, 1)
        actor = ray.remote(RemoteEngine).options(
            num_cpus=threads,
            num_gpus=int(ray.cluster_resources().get("GPU", 0) >= workers),
            max_restarts=restarts,
            scheduling_strategy="SPREAD",
        )
        self._actors: list[ActorHandle] = [actor.remote(engine, threads) for _ in range(workers)]

    def pool(self, bundle: Bundle, told: Tell, lost: Tell) -> EnginePool:
        """Have all workers run a bundle, beside those that they run already.

        Args:
            bundle: verified; its files are sent to the workers, who verify them again.
            told: is told a line about each worker.
            lost: as in `EnginePool`.

        Raises:
            ConfigError: the cluster has no room for all workers.
            EngineError: the bundle does not run on one.
        """
        files = [ray.put(packed(bundle))]
        places = self._started(files)
        workers = [RayWorker(f"worker {k}", actor, files) for k, actor in enumerate(self._actors)]
        for worker, place in zip(workers, places, strict=True):
            told(f"{worker.name} is process {place.process} on {place.host}: {place.backend}, {place.device}")
        backend = "+".join(sorted({place.backend for place in places}))
        device = "+".join(sorted({place.device for place in places}))
        return EnginePool(bundle, backend, f"{len(workers)} × {device}", workers, lost)

    def close(self) -> None:
        """Leave the cluster; the workers end, and one of its own does."""
        ray.shutdown()

    def _started(self, files: Sequence[ObjectRef]) -> list[Whereabouts]:
        starting = [actor.start.remote(files) for actor in self._actors]
        try:
            places: list[Whereabouts] = ray.get(starting, timeout=_PATIENCE_S)
        except GetTimeoutError as error:
            raise ConfigError(
                f"not all of {len(starting)} workers started within {_PATIENCE_S:.0f} s: has the cluster so "
                "many processors free? Lower workers, or threads"
            ) from error
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise EngineError(f"a worker does not start: {one_line(error)}") from error
        return places


class RayWorker(Worker):
    """An actor that runs a bundle.

    Args:
        name: for the operator.
        actor: a `RemoteEngine`.
        files: the bundle, in Ray's store.
    """

    def __init__(self, name: str, actor: ActorHandle, files: Sequence[ObjectRef]) -> None:
        super().__init__(name)
        self._actor = actor
        self._files = files
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="revive")

    def infer(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Send raw counts (n, 1, H, W) to the actor."""
        found: Future[Inferred] = Future()
        given = self._actor.infer.remote(self._files, counts).future()
        given.add_done_callback(partial(_pass_on, found))
        return found

    def revive(self) -> Future[None]:
        """Wait until Ray has started its process anew, there or on another machine."""
        return self._waiting.submit(self._come_back)

    def close(self) -> None:
        """Have the actor let go of the bundle."""
        self._actor.forget.remote(self._files)
        self._waiting.shutdown(wait=False)

    def _come_back(self) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until_s:
            try:
                ray.get(self._actor.start.remote(self._files), timeout=_PATIENCE_S)
            except ActorDiedError:
                break
            except RayTaskError as error:
                raise WorkerLostError(one_line(error.cause)) from error
            except RayError:
                time.sleep(_RETRY_S)  # it is being started
            else:
                return
        raise WorkerLostError("Ray does not start it again")


def _pass_on(found: Future[Inferred], given: Future[Inferred]) -> None:
    """Settle one future by another, in the service's own errors."""
    error = given.exception()
    if error is None:
        found.set_result(given.result())
    elif isinstance(error, RayTaskError):
        found.set_exception(error.cause)
    elif isinstance(error, RayError):
        found.set_exception(WorkerLostError(one_line(error).split(". ")[0]))
    else:
        found.set_exception(error)


def _join(address: str) -> None:
    """Start a cluster, or become part of one; raises ConfigError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing goes to the maker's servers
    if address not in (LOCAL, AUTO):
        _must_answer(address)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r}: {one_line(error)}. One that asks for a token needs "
            "RAY_AUTH_MODE=token here too, and its token in ~/.ray/auth_token"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray took it, and would not end the running scan


def _is_guarded() -> bool:
    """Whether Ray, which has joined, sends its token: then so do all others there."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"  # Ray sets it where it found one


def _must_answer(address: str) -> None:
    """Refuse an address where nobody listens; Ray would wait for minutes, and then end the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r}: {error}; give HOST:PORT of `ray start --head`"
        ) from error
