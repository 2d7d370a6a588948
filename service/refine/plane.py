"""An array on the mosaic's grid that grows where it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.mosaic import Bounds

_GROWTH_PX = 256  # edges lie on multiples of it, so that a raster does not grow the plane row by row
_NOWHERE = (0, 0, 0, 0)


def joined(a: Bounds | None, b: Bounds) -> Bounds:
    """Return the smallest box that holds both; a box is (y0, x0, y1, x1)."""
    return b if a is None else (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


class Plane:
    """Values by row and column, the same everywhere until they are changed; pixel (0, 0) is the mosaic's.

    Args:
        value: a NumPy scalar; its type is that of the plane.
    """

    def __init__(self, value: np.generic) -> None:
        self._value = value
        self._box: Bounds | None = None
        self._values = np.full((0, 0), value)

    def view(self, box: Bounds) -> NDArray[Any]:
        """Return a view of a box, (H, W), to be changed in place before the next one is asked for."""
        self._grow(box)
        return self._values[_slices(box, self._box or _NOWHERE)]

    def within(self, bounds: Bounds) -> tuple[tuple[slice, slice], NDArray[Any]]:
        """Return which part of bounds is held, and a view of it; the plane does not grow."""
        box = self._box or _NOWHERE
        common = _meet(bounds, box)
        return _slices(common, bounds), self._values[_slices(common, box)]

    def _grow(self, box: Bounds) -> None:
        old = self._box
        grown = joined(old, _rounded_outward(box))
        if grown == old:
            return
        values = np.full((grown[2] - grown[0], grown[3] - grown[1]), self._value)
        if old is not None:
            values[_slices(old, grown)] = self._values
        self._values, self._box = values, grown


def _rounded_outward(box: Bounds) -> Bounds:
    y0, x0, y1, x1 = box
    step = _GROWTH_PX
    return y0 // step * step, x0 // step * step, -(-y1 // step) * step, -(-x1 // step) * step


def _meet(a: Bounds, b: Bounds) -> Bounds:
    """Return what two boxes share, of no size where they are apart."""
    y0, x0 = max(a[0], b[0]), max(a[1], b[1])
    return y0, x0, max(min(a[2], b[2]), y0), max(min(a[3], b[3]), x0)


def _slices(box: Bounds, within: Bounds) -> tuple[slice, slice]:
    top, left = within[:2]
    return slice(box[0] - top, box[2] - top), slice(box[1] - left, box[3] - left)
