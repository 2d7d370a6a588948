"""The refinement that the service does in idle time, on the frames of a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.refinement import ObjectRefinement, Placement, placement
from training.judging.iterative_frames import Frames
from training.judging.stopwatch import Spent, timed

Complex = NDArray[np.complex64]


class RefinementRun:
    """The refinement that the service does in idle time, frame by frame in random order.

    Args:
        frames: with the object to start from; the probe stays as it is.
        step: share of rPIE's step.
        seed: of the order.
    """

    def __init__(self, frames: Frames, step: float = 1.0, seed: int = 0) -> None:
        self._frames = frames
        self._engine = ObjectRefinement(frames.probe, step=step)
        self._object = frames.start.copy()
        self._dice = np.random.default_rng(seed)
        shape = (frames.counts.shape[1], frames.counts.shape[2])
        centres = frames.top_left_px + np.array(shape) // 2
        self._places: list[Placement] = [placement((y, x), shape) for y, x in centres.tolist()]

    def iterate(self) -> Spent:
        """Take all frames once; return what it took."""
        return timed(self._pass)[1]

    def _pass(self) -> None:
        height, width = self._frames.counts.shape[1:]
        for n in self._dice.permutation(len(self._places)).tolist():
            at = self._places[n]
            patch = self._object[at.top : at.top + height, at.left : at.left + width]
            self._engine.update(patch, self._frames.counts[n], at.shift)

    def found(self) -> tuple[Complex, Complex]:
        """Return object (Y, X) and probe (M, H, W) as they stand."""
        return self._object.copy(), self._frames.probe
