"""The eight ways in which diffraction patterns and scan positions can lie: quarter turns and mirrors."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class Orientation(Enum):
    """What is done to frames, or has been done to them: first transposed, then mirrored.

    Rows grow downward. Mirrors keep the zero frequency at [H // 2, W // 2]: for an even number of pixels
    they are a flip and a roll by one. A turned probe over an equally turned object gives the turned pattern;
    so positions that are turned as the frames are belong to them again.

    Attributes:
        words: for people, to follow "the frames are".
        setting: name of what is done, for settings; quarter turns are counter-clockwise, as NumPy's.
        transposed: rows and columns are exchanged.
        upside_down, left_right: mirrored after that.
    """

    UPRIGHT = ("as they should be", "as-is", False, False, False)
    MIRRORED_LEFT_RIGHT = ("mirrored left-right", "mirror-lr", False, False, True)
    MIRRORED_UP_DOWN = ("mirrored up-down", "mirror-ud", False, True, False)
    HALF_TURN = ("rotated by 180°", "rotate180", False, True, True)
    TRANSPOSED = ("transposed", "transpose", True, False, False)
    QUARTER_TURN_LEFT = ("rotated by 90° counter-clockwise", "rotate90", True, True, False)
    QUARTER_TURN_RIGHT = ("rotated by 90° clockwise", "rotate270", True, False, True)
    TRANSPOSED_OTHERWISE = ("transposed about the other diagonal", "antitranspose", True, True, True)

    def __init__(
        self, words: str, setting: str, transposed: bool, upside_down: bool, left_right: bool
    ) -> None:
        self.words = words
        self.setting = setting
        self.transposed = transposed
        self.upside_down = upside_down
        self.left_right = left_right

    @classmethod
    def of_setting(cls, setting: str) -> Orientation:
        """Return the orientation of that name; KeyError where there is none."""
        return {way.setting: way for way in cls}[setting]

    @classmethod
    def of_axes(cls, axes: str) -> Orientation:
        """Return the orientation of positions that `axes` names; KeyError where there is none."""
        return {way.axes: way for way in cls}[axes]

    @property
    def axes(self) -> str:
        """What y and x are made of, such as "-y,x": y is the y that is told, with its sign changed."""
        told = ("x", "y") if self.transposed else ("y", "x")
        signs = ("-" if mirrored else "" for mirrored in (self.upside_down, self.left_right))
        return ",".join(sign + axis for sign, axis in zip(signs, told, strict=True))

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

    def of_positions(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (…, 2) positions y, x so oriented, about 0, 0; the same array if there is nothing to do."""
        if self is Orientation.UPRIGHT:
            return positions
        turned = positions[..., ::-1] if self.transposed else positions
        signs = np.array([-1.0 if self.upside_down else 1.0, -1.0 if self.left_right else 1.0])
        signed: NDArray[np.float64] = turned * signs
        return signed

    def of_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (H, W) that frames of a shape have once they are so oriented."""
        return (shape[1], shape[0]) if self.transposed else shape


def _mirrored(frames: NDArray[Scalar], axis: int) -> NDArray[Scalar]:
    even = frames.shape[axis] % 2 == 0
    return np.roll(np.flip(frames, axis), int(even), axis)
