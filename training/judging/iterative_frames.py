"""What an iterative engine reconstructs from: frames, positions, probe and start, made to fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.judge import forward_residual

Complex = NDArray[np.complex64]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The frames of a scan with what lit them and where, checked by `frames_of`.

    Attributes:
        counts: (N, H, W) photons a pixel, zero frequency at [H // 2, W // 2].
        probe: (M, H, W) modes, square-root photons a pixel.
        top_left_px: (N, 2) top-left (row, column) of each frame's patch in the object, with fractions.
        start: (Y, X) object to start from.
        valid: (H, W) bool, pixels that count; None: all.
    """

    counts: NDArray[np.float32]
    probe: Complex
    top_left_px: NDArray[np.float64]
    start: Complex
    valid: NDArray[np.bool_] | None = None

    def residual(
        self, transmission: Complex, probe: Complex, top_left_px: NDArray[np.float64] | None = None
    ) -> float:
        """Return the forward residual of an object (Y, X) and a probe (M, H, W) over the frames.

        Args:
            transmission: the object.
            probe: its modes.
            top_left_px: (N, 2) where the frames lie; as they were given where None.
        """
        corners = self.top_left_px if top_left_px is None else top_left_px
        return forward_residual(probe, transmission, self.counts, corners, valid=self.valid)


def frames_of(
    counts: NDArray[Any],
    top_left_px: NDArray[np.floating[Any]],
    probe: Complex,
    start: Complex | None = None,
    object_shape: tuple[int, int] | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Frames:
    """Return the frames of a scan in the types that engines take; arguments as of `iterative.reconstruct`.

    Of what `valid` (H, W) leaves out nothing is asked.

    Raises:
        ValueError: the arrays do not fit each other, or hold what no count can be.
    """
    if counts.ndim != 3 or np.shape(top_left_px) != (len(counts), 2) or not len(counts):
        raise ValueError(
            f"counts {counts.shape} and positions {np.shape(top_left_px)} do not fit: "
            "(N, H, W) and (N, 2) are needed"
        )
    if probe.ndim != 3 or probe.shape[1:] != counts.shape[1:]:
        raise ValueError(f"the probe {probe.shape} must be (modes, H, W) of the frames {counts.shape}")
    if valid is not None:
        counts = np.where(valid, counts, 0)
    if not (np.isfinite(counts).all() and np.isfinite(probe).all() and np.isfinite(top_left_px).all()):
        raise ValueError("counts, probe or positions hold NaN or infinity: were masked pixels filled?")
    if counts.min() < 0 or not counts.any() or not probe.any():
        raise ValueError("counts must be photons, 0 or more, and neither they nor the probe all dark")
    corners = np.array(top_left_px, dtype=np.float64)
    empty = _empty_object(corners, counts.shape[1:], start, object_shape)
    return Frames(np.asarray(counts, np.float32), np.array(probe, np.complex64), corners, empty, valid)


def _empty_object(
    corners: NDArray[np.float64],
    patch: tuple[int, ...],
    start: Complex | None,
    object_shape: tuple[int, int] | None,
) -> Complex:
    """Return the object to start from: the given one or ones.

    Raises:
        ValueError: it does not fit, or a patch reaches beyond it.
    """
    needed = np.ceil(corners.max(axis=0)).astype(int) + np.array(patch)
    shape = object_shape or (start.shape if start is not None else tuple(needed.tolist()))
    if start is not None and start.shape != tuple(shape):
        raise ValueError(f"the start {start.shape} is not of the object's shape {tuple(shape)}")
    if len(shape) != 2 or corners.min() < 0 or (needed > np.array(shape)).any():
        raise ValueError(
            f"patches of {patch} from {corners.min(axis=0)} to {corners.max(axis=0)} reach beyond the object "
            f"{tuple(shape)}: are the positions top-left corners in pixels?"
        )
    return np.ones(shape, np.complex64) if start is None else np.array(start, np.complex64)
