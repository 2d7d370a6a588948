"""Where an engine on a GPU runs: its name may end with the GPU's number, as in "tensorrt:1"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.engines.plan_cache import BatchSizes

_GREATEST: Final = 64  # frames of a batch that an engine takes at least


@dataclass(frozen=True, slots=True)
class GpuPlace:
    """What an engine on a GPU is told of it.

    Attributes:
        number: of the GPU, from 0.
        cache: folder of engines that were compiled for a GPU.
        batch_frames: frames of a usual batch.
    """

    number: int = 0
    cache: Path = Path("~/.cache/ptycholive")
    batch_frames: int = 16

    @property
    def batches(self) -> BatchSizes:
        """The sizes of batches to compile for."""
        return BatchSizes(1, self.batch_frames, max(self.batch_frames, _GREATEST))


def name_and_number(engine: str) -> tuple[str, int | None]:
    """Return an engine's name without the number of its GPU, and that; None: it has none."""
    name, colon, number = engine.partition(":")
    return name, int(number) if colon else None
