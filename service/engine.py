"""What an engine is, and how frames become its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.optics import tile_residual
from service.messages import Float32, Frame


class Inferred(NamedTuple):
    """What a network says of n frames.

    Attributes:
        amplitude, cos, sin: (n, h, w) float32 of the object.
        residual: (n,) float32 forward residual of each frame; None: it does not say.
    """

    amplitude: Float32
    cos: Float32
    sin: Float32
    residual: Float32 | None = None


class Engine(Protocol):
    """Runs a bundle's network.

    Attributes:
        bundle: what it runs.
        backend: the library, e.g. "onnxruntime".
        device: what it runs on, e.g. "cpu".
    """

    bundle: Bundle
    backend: str
    device: str

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what the network says of raw counts (n, 1, H, W) in the bundle's dtype."""
        ...


def forward_residuals(bundle: Bundle, found: Inferred, counts: NDArray[Any]) -> Float32:
    """Return the forward residuals (n,) of frames (n, 1, H, W) with the tiles that were found for them.

    What the network says of them itself is taken; else the bundle's probe tells.
    """
    if found.residual is not None:
        return found.residual
    transmission = found.amplitude * (found.cos + 1j * found.sin)
    invalid = counts >= bundle.description.invalid_counts
    pairs = zip(transmission, counts[:, 0], invalid[:, 0], strict=True)
    return np.array([tile_residual(bundle.probe, *pair) for pair in pairs], np.float32)


def engine_input(
    frames: Sequence[Frame], mask: NDArray[np.bool_] | None, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the frames as (n, 1, H, W) raw counts, masked pixels at the dtype's greatest value.

    Detectors mark gap and dead pixels in the same way, so the network knows one sign for both. A count
    that the dtype cannot hold is cut just below it.
    """
    counts = np.empty((len(frames), 1, *frames[0].counts.shape), dtype)
    for row, frame in zip(counts, frames, strict=True):
        row[0] = frame.counts if frame.counts.dtype == dtype else _as_counts(frame.counts, dtype)
    if mask is not None:
        counts[:, :, mask] = np.iinfo(dtype).max
    return counts


def _as_counts(counts: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return counts of another type, with that type's sign of a bad pixel changed for the dtype's own."""
    greatest = np.iinfo(dtype).max
    if counts.dtype.kind == "f":
        bad = ~np.isfinite(counts)
        whole = np.rint(np.where(bad, 0.0, counts.astype(np.float64)))
    else:
        bad = counts == np.iinfo(counts.dtype).max
        whole = counts.astype(np.uint32)
    held: NDArray[Any] = np.where(bad, greatest, np.clip(whole, 0, greatest - 1).astype(dtype))
    return held
