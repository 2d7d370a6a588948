"""Where an engine on a GPU runs: its name may end with the GPU's number, as in "tensorrt:1"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.engines.plan_cache import BatchSizes


@dataclass(frozen=True, slots=True)
class GpuPlace:
    """What an engine on a GPU is told of it.

    Attributes:
        number: of the GPU, from 0.
        cache: folder of engines that were compiled for a GPU.
        batch_frames: frames of a usual batch.
        most: frames of the largest batch, where the usual one is not larger.
    """

    number: int = 0
    cache: Path = Path("~/.cache/ptycholive")
    batch_frames: int = 16
    most: int = 64

    @property
    def batches(self) -> BatchSizes:
        """The sizes of batches to compile for."""
        return BatchSizes(1, self.batch_frames, max(self.batch_frames, self.most))


def name_and_number(engine: str) -> tuple[str, int | None]:
    """Return an engine's name without the number of its GPU, and that; None: it has none."""
    name, colon, number = engine.partition(":")
    return name, int(number) if colon else None
