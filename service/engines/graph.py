"""What every engine knows of a bundle's graph: its outputs, and whether it is the one described."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Engine, Inferred
from service.errors import EngineError

OUTPUTS = ("amplitude", "cos", "sin")
TRUST_OUTPUTS = ("spread_rad", "residual")  # a graph may have them
COUNTS_DTYPES = ("uint8", "uint16", "uint32")

Shape = tuple[Any, ...]  # a library may say an unknown side by a word


def checked_outputs(
    bundle: Bundle, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> Sequence[str]:
    """Return the outputs to ask a graph for: those of `Inferred` that it has, in that order.

    Args:
        bundle: that the graph is of.
        inputs: shapes without the batch's axis, by name.
        outputs: likewise.

    Raises:
        EngineError: the graph is not the one that its description tells of.
    """
    told = bundle.description
    if told.counts_dtype not in COUNTS_DTYPES:
        raise EngineError(
            f"{bundle.path} takes counts of {told.counts_dtype!r}, not {' or '.join(COUNTS_DTYPES)}"
        )
    if inputs != {"counts": (1, *told.frame_shape)}:
        raise EngineError(f"{bundle.onnx} takes {dict(inputs)}, its description says {told.frame_shape}")
    names = (*OUTPUTS, *(name for name in TRUST_OUTPUTS if name in outputs))
    if outputs != {name: _shape(name, told.tile_shape) for name in names}:
        raise EngineError(f"{bundle.onnx} gives {dict(outputs)}, its description says {told.tile_shape}")
    return [name for name in Inferred._fields if name in names]


def as_inferred(names: Sequence[str], arrays: Sequence[NDArray[Any]]) -> Inferred:
    """Return outputs (n, 1, h, w) and (n,) by name, the planes without their channel's axis."""
    planes = [array[:, 0] if array.ndim == 4 else array for array in arrays]
    return Inferred(**dict(zip(names, planes, strict=True)))


def joined(parts: Sequence[Inferred]) -> Inferred:
    """Return what a network says of several batches, as of one."""
    first = parts[0]._asdict()
    names = [name for name in first if first[name] is not None]
    return Inferred(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def try_batches(engine: Engine) -> None:
    """Run batches of two sizes: a graph that is exported for one cannot take another.

    Raises:
        EngineError: it does not.
    """
    for frames in (1, 2):
        engine.infer(blank_frames(engine.bundle, frames))


def cores() -> int:
    """Return how many cores this process may use, and so the threads of an engine that is told none."""
    return len(os.sched_getaffinity(0))


def blank_frames(bundle: Bundle, frames: int) -> NDArray[Any]:
    """Return so many frames without a photon, (n, 1, H, W), for a run that warms an engine up."""
    told = bundle.description
    return np.zeros((frames, 1, *told.frame_shape), np.dtype(told.counts_dtype))


def one_line(error: Exception) -> str:
    """Return what a library says of a failure, its line breaks taken out."""
    return " ".join(str(error).split())


def _shape(output: str, tile_shape: tuple[int, int]) -> Shape:
    """Return what each frame gets of an output."""
    return () if output == "residual" else (1, *tile_shape)
