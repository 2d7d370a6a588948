"""The eight ways in which diffraction patterns can lie on the detector: quarter turns and mirrors."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class Orientation(Enum):
    """What has been done to frames, in words that follow "the frames are": first transposed, then mirrored.

    Rows grow downward. Mirrors keep the zero frequency at [H // 2, W // 2]: for an even number of pixels
    they are a flip and a roll by one.

    Attributes:
        words: for people.
        transposed: rows and columns are exchanged.
        upside_down, left_right: mirrored after that.
    """

    UPRIGHT = ("as they should be", False, False, False)
    MIRRORED_LEFT_RIGHT = ("mirrored left-right", False, False, True)
    MIRRORED_UP_DOWN = ("mirrored up-down", False, True, False)
    HALF_TURN = ("rotated by 180°", False, True, True)
    TRANSPOSED = ("transposed", True, False, False)
    QUARTER_TURN_LEFT = ("rotated by 90° counter-clockwise", True, True, False)
    QUARTER_TURN_RIGHT = ("rotated by 90° clockwise", True, False, True)
    TRANSPOSED_OTHERWISE = ("transposed about the other diagonal", True, True, True)

    def __init__(self, words: str, transposed: bool, upside_down: bool, left_right: bool) -> None:
        self.words = words
        self.transposed = transposed
        self.upside_down = upside_down
        self.left_right = left_right

    @property
    def inverse(self) -> Orientation:
        """What undoes it."""
        turns = (Orientation.QUARTER_TURN_LEFT, Orientation.QUARTER_TURN_RIGHT)
        return turns[1 - turns.index(self)] if self in turns else self

    def fits(self, frame_shape: tuple[int, int]) -> bool:
        """Return whether frames (H, W) keep their shape."""
        return not self.transposed or frame_shape[0] == frame_shape[1]

    def of(self, frames: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return (…, H, W) frames so oriented, zero frequency at [H // 2, W // 2] as before."""
        turned = frames.swapaxes(-2, -1) if self.transposed else frames
        turned = _mirrored(turned, -2) if self.upside_down else turned
        return _mirrored(turned, -1) if self.left_right else turned


def _mirrored(frames: NDArray[Scalar], axis: int) -> NDArray[Scalar]:
    even = frames.shape[axis] % 2 == 0
    return np.roll(np.flip(frames, axis), int(even), axis)
