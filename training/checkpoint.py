"""Checkpoints: what a training run left, read without unpickling anything but tensors and plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError  # what torch raises for a file that holds more than that
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from training.task import ReconstructionTask, TaskConfig


class CheckpointError(Exception):
    """A file is not a checkpoint that `train` wrote."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint holds of ours.

    Attributes:
        path: the file.
        config: of the task.
        probe: (M, H, W) complex64 modes; None where the run had none.
        weights: of the task.
        steps: optimiser steps that lie behind it.
        record: of the run, plain values: "plan", "environment"; runs before those were kept have neither.
    """

    path: Path
    config: TaskConfig
    probe: NDArray[np.complex64] | None
    weights: dict[str, torch.Tensor]
    steps: int
    record: dict[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged or of another program.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        ours = saved["ptycholive"]
        return Checkpoint(
            path=path,
            config=msgspec.convert(ours["config"], TaskConfig),
            probe=None if ours["probe"] is None else ours["probe"].numpy(),
            weights=saved["state_dict"],
            steps=int(saved["global_step"]),
            record={key: value for key, value in ours.items() if key not in ("config", "probe")},
        )
    except (
        OSError,
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        UnpicklingError,
        msgspec.ValidationError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} is not a checkpoint that `train` wrote ({reason})") from error


def matching_tilts(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose network matches tilts to patterns; the paper's, which cannot, as it is."""
    config = checkpoint.config.network
    matched = replace(config, match_tilt=config.kind == "probe-informed")
    return replace(checkpoint, config=replace(checkpoint.config, network=matched))


def load_task(checkpoint: Checkpoint) -> ReconstructionTask:
    """Build the task of a checkpoint again, with its weights.

    Raises:
        CheckpointError: the weights do not fit the configuration.
    """
    try:
        task = ReconstructionTask(checkpoint.config, checkpoint.probe, checkpoint.record)
        task.load_state_dict(checkpoint.weights)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{checkpoint.path}: its weights do not fit its configuration ({reason})"
        ) from error
    return task
