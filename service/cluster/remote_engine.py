"""What runs on a worker's machine: the engine of a bundle that comes over the network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import ray
from numpy.typing import NDArray
from ray import ObjectRef

from model.bundle import Bundle, BundleError, load_bundle
from service.engine import Engine, Inferred
from service.engines.choice import choose_engine
from service.errors import EngineError

Files = Mapping[str, bytes]


class Whereabouts(NamedTuple):
    """Where a worker is, and what it runs with and on."""

    host: str
    process: int
    backend: str
    device: str


class RemoteEngine:
    """Runs bundles in a process of its own; Ray makes an actor of it.

    Every call names the bundle by where its files are in Ray's store. So a process that has died and was
    started anew knows what to run without being told, and a machine fetches the files once.

    Args:
        engine, threads: as in `choose_engine`.
    """

    def __init__(self, engine: str, threads: int) -> None:
        self._choice = engine, threads
        self._engines: dict[str, Engine] = {}
        self._folder = TemporaryDirectory(prefix="ptycholive-")

    def start(self, files: Sequence[ObjectRef]) -> Whereabouts:
        """Start the engine of a bundle.

        Raises:
            EngineError: the files are not a whole bundle, or no engine runs it here.
        """
        engine = self._engine(files[0])
        return Whereabouts(ray.util.get_node_ip_address(), os.getpid(), engine.backend, engine.device)

    def infer(self, files: Sequence[ObjectRef], counts: NDArray[Any]) -> Inferred:
        """Return what a bundle's network says of raw counts (n, 1, H, W).

        Raises:
            EngineError: it failed; see `start`.
        """
        return self._engine(files[0]).infer(counts)

    def forget(self, files: Sequence[ObjectRef]) -> None:
        """Let go of a bundle's engine."""
        self._engines.pop(files[0].hex(), None)

    def _engine(self, files: ObjectRef) -> Engine:
        key = files.hex()
        if key not in self._engines:
            bundle = unpacked(ray.get(files), Path(self._folder.name, key))
            self._engines[key] = _started(bundle, *self._choice)
        return self._engines[key]


def packed(bundle: Bundle) -> Files:
    """Return the files of a bundle by name."""
    return {name: (bundle.path / name).read_bytes() for name in bundle.files}


def unpacked(files: Files, folder: Path) -> Bundle:
    """Write the files of a bundle and verify that they are what its description says.

    Raises:
        EngineError: they are not, or cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return load_bundle(folder)
    except (OSError, BundleError) as error:
        raise EngineError(f"the bundle cannot be used on a worker: {error}") from error


def _started(bundle: Bundle, name: str, threads: int) -> Engine:
    try:
        return choose_engine(bundle, name, threads).engine
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed on a worker") from error
