"""Engines that were compiled once for a GPU, kept in files: compiling takes seconds to minutes.

A file begins with the hash of what follows. One that is cut short or altered is as good as none: the engine
is compiled again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.whole_files import written_whole
from service.errors import EngineError

_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Batches that an engine is compiled for, frames: the least, that it shall be fastest at, the greatest.

    Raises:
        ValueError: they fall, or the least is below 1.
    """

    least: int
    typical: int
    greatest: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.typical <= self.greatest:
            raise ValueError(f"sizes of batches must rise from 1: {self}")

    def __str__(self) -> str:
        return f"{self.least}-{self.typical}-{self.greatest}"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a compiled engine depends on.

    Attributes:
        graph_sha256: of the ONNX file.
        gpu: name of the product, e.g. "NVIDIA H100 80GB HBM3".
        capability: its compute capability, (9, 0).
        library: name and version, e.g. "tensorrt 11.4.0".
        batches: that it was compiled for.
    """

    graph_sha256: str
    gpu: str
    capability: tuple[int, int]
    library: str
    batches: BatchSizes

    @property
    def file_name(self) -> str:
        """One name for one key: what is not plain in it is told by a hash of the whole."""
        whole = hashlib.sha256(repr(self).encode()).hexdigest()[:16]
        major, minor = self.capability
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.gpu} sm{major}{minor} {self.library}")
        return f"{self.graph_sha256[:12]}.{plain}.{self.batches}.{whole}.plan"


class PlanCache:
    """Compiled engines in a folder; it may be emptied at any time.

    Args:
        folder: made when the first engine is kept; "~" is the user's home. Nobody else may write to it: what
            it holds runs on the GPU.

    Raises:
        EngineError: the user has no home.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._folder = folder.expanduser()
        except RuntimeError as error:
            raise EngineError(
                "this user has no home to keep compiled engines in: set engine_cache"
            ) from error

    def find(self, key: PlanKey) -> bytes | None:
        """Return a compiled engine; None: there is none, or its file is damaged."""
        try:
            content = (self._folder / key.file_name).read_bytes()
        except OSError:
            return None
        told, plan = content[:_HASH_BYTES], content[_HASH_BYTES:]
        return plan if hashlib.sha256(plan).digest() == told else None

    def keep(self, key: PlanKey, plan: bytes) -> None:
        """Write a compiled engine, whole or not at all.

        Raises:
            EngineError: the folder cannot be written.
        """
        path = self._folder / key.file_name
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with written_whole(path) as half:
                half.write_bytes(hashlib.sha256(plan).digest() + plan)
        except OSError as error:
            raise EngineError(
                f"cannot keep the compiled engine in {self._folder}: {error.strerror}: set engine_cache"
            ) from error

    def drop(self, key: PlanKey) -> None:
        """Forget an engine that its library does not take."""
        (self._folder / key.file_name).unlink(missing_ok=True)
