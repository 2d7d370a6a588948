"""The engines of a service: one, several in threads of its own, or workers on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from model.bundle import Bundle, BundleError, find_bundle, load_bundle
from service.config import Settings
from service.engine import Engine
from service.engines.choice import (
    AUTO,
    ON_GPU,
    Candidate,
    Choice,
    choose_engine,
    compile_engine,
    measured_rate_hz,
)
from service.engines.cuda import gpu_count
from service.engines.graph import cores
from service.engines.places import GpuPlace, name_and_number
from service.errors import ConfigError, EngineError
from service.pool import EnginePool, as_pool, beside_others

if TYPE_CHECKING:
    from service.cluster.nodes import Cluster

Tell = Callable[[str], None]


def load_engine(bundle: str, threads: int, name: str = AUTO, gpu: GpuPlace | None = None) -> Engine:
    """Load and verify a bundle, and start the engine that runs it.

    Raises:
        ConfigError: the bundle is refused; the reason in one line.
        EngineError: its network does not run.
    """
    return choose_engine(_verified(bundle), name, threads, gpu).engine


def gpu_place(settings: Settings) -> GpuPlace:
    """Return where an engine on a GPU runs that names none."""
    return GpuPlace(cache=Path(settings.engine_cache), batch_frames=settings.batch_frames)


class Workforce:
    """Starts the engines that run a bundle, where the settings say.

    Args:
        settings: of everything.
        told: is told a line about each worker on a cluster, and why others than theirs are not the engine.
        lost: is told a line about each that is lost.
    """

    def __init__(self, settings: Settings, told: Tell, lost: Tell) -> None:
        self._settings = settings
        self._told = told
        self._lost = lost
        self._cluster: Cluster | None = None
        self._choices: WeakKeyDictionary[EnginePool, Choice] = WeakKeyDictionary()  # that may become better

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
        choice = choose_engine(verified, s.engine, _threads(s), gpu_place(s))
        pool = _pool(choice, s)
        if s.workers > 1:
            for other in choice.candidates[1:]:
                self._told(str(other))
        if choice.later:
            self._choices[pool] = choice
        return pool

    def improved(self, pool: EnginePool, stopped: Callable[[], bool]) -> EnginePool | None:
        """Compile what "auto" could not yet start; return it where it is faster than what runs, else None.

        Args:
            pool: that runs; for each this is worth one call.
            stopped: asked while it is compiled whether to give up.
        """
        if (choice := self._choices.pop(pool, None)) is None:
            return None
        for name in choice.later:
            try:
                engine = compile_engine(pool.bundle, name, gpu_place(self._settings), stopped)
                rate_hz, before_hz = measured_rate_hz(engine), choice.candidates[0].rate_hz or 0.0
                self._told(f"{name} is compiled: {rate_hz:.0f} frames/s, {pool.backend} {before_hz:.0f}")
                if rate_hz > before_hz:
                    return _pool(Choice(engine, (Candidate(name),)), self._settings)
            except EngineError as error:
                self._told(f"not {name}: {error}")
        return None

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


def _threads(settings: Settings) -> int:
    """Return the threads of each engine; several share the cores of this machine."""
    if settings.workers == 1:
        return settings.threads
    return settings.threads or max(1, cores() // settings.workers)


def _pool(choice: Choice, settings: Settings) -> EnginePool:
    """Start as many more like the engine that was chosen as there shall be, on one GPU after the other."""
    if settings.workers == 1:
        return as_pool(choice.engine)
    name, first = choice.candidates[0].name, choice.engine
    places = _places(name, settings)
    others = [choose_engine(first.bundle, name, _threads(settings), place).engine for place in places[1:]]
    engines = (first, *others)
    devices = "+".join(sorted({engine.device for engine in engines}))
    workers = [beside_others(engine) for engine in engines]
    return EnginePool(first.bundle, first.backend, f"{len(engines)} × {devices}", workers)


def _places(name: str, settings: Settings) -> list[GpuPlace]:
    """Return where each worker runs: on all GPUs in turn, unless the engine's name says on which."""
    base, number = name_and_number(name)
    gpus = gpu_count() if base in ON_GPU and number is None else 1
    return [replace(gpu_place(settings), number=k % max(1, gpus)) for k in range(settings.workers)]
