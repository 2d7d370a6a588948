"""The engines of a service: one, several in threads of its own, or workers on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from model.bundle import Bundle, BundleError, find_bundle, load_bundle
from service.config import Settings
from service.engine import Engine
from service.engines.choice import AUTO, choose_engine
from service.engines.graph import cores
from service.errors import ConfigError
from service.pool import EnginePool, ThreadWorker, as_pool

if TYPE_CHECKING:
    from service.cluster.nodes import Cluster

Tell = Callable[[str], None]


def load_engine(bundle: str, threads: int, name: str = AUTO) -> Engine:
    """Load and verify a bundle, and start the engine that runs it.

    Raises:
        ConfigError: the bundle is refused; the reason in one line.
        EngineError: its network does not run.
    """
    return choose_engine(_verified(bundle), name, threads).engine


class Workforce:
    """Starts the engines that run a bundle, where the settings say.

    Args:
        settings: of everything.
        told: is told a line about each worker on a cluster.
        lost: is told a line about each that is lost.
    """

    def __init__(self, settings: Settings, told: Tell, lost: Tell) -> None:
        self._settings = settings
        self._told = told
        self._lost = lost
        self._cluster: Cluster | None = None

    def load(self, bundle: str) -> EnginePool:
        """Load and verify a bundle, and start all that run it.

        Raises:
            ConfigError: the bundle is refused, or the cluster cannot be had; the reason in one line.
            EngineError: its network does not run.
        """
        s, verified = self._settings, _verified(bundle)
        if s.cluster is not None:
            self._cluster = self._cluster or _joined(s, s.cluster)
            return self._cluster.pool(verified, self._told, self._lost)
        if s.workers > 1:
            return _side_by_side(verified, s)
        return as_pool(choose_engine(verified, s.engine, s.threads).engine)

    def close(self) -> None:
        """Leave the cluster."""
        if self._cluster is not None:
            self._cluster.close()


def _verified(bundle: str) -> Bundle:
    try:
        return load_bundle(find_bundle(bundle))
    except BundleError as error:
        raise ConfigError(str(error)) from error


def _joined(settings: Settings, address: str) -> Cluster:
    from service.cluster.nodes import Cluster  # Ray is an extra, and takes its time to load

    return Cluster(
        address, settings.workers, settings.engine, settings.threads, plain=settings.allow_plain_streams
    )


def _side_by_side(bundle: Bundle, settings: Settings) -> EnginePool:
    """Start engines that share the cores of this machine."""
    threads = settings.threads or max(1, cores() // settings.workers)
    choice = choose_engine(bundle, settings.engine, threads)
    name = choice.candidates[0].name
    others = [choose_engine(bundle, name, threads).engine for _ in range(1, settings.workers)]
    workers = [ThreadWorker(engine) for engine in (choice.engine, *others)]
    first = choice.engine
    return EnginePool(bundle, first.backend, f"{len(workers)} × {first.device}", workers)
