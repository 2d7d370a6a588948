"""The object under refinement: a plane on the mosaic's grid that grows where frames come in."""

from __future__ import annotations

import numpy as np

from service.mosaic import Bounds, Complex64, Mosaic

PIXEL_BYTES = np.dtype(np.complex64).itemsize + np.dtype(np.bool_).itemsize

_GROWTH_PX = 256  # edges lie on multiples of it, so that a raster does not grow the plane row by row


def joined(a: Bounds | None, b: Bounds) -> Bounds:
    """Return the smallest box that holds both; a box is (y0, x0, y1, x1)."""
    return b if a is None else (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))


class Canvas:
    """A complex object, 1 where nothing is known of it; pixel (0, 0) is that of the mosaic.

    Args:
        mosaic: gives the start wherever a frame comes in.
    """

    def __init__(self, mosaic: Mosaic) -> None:
        self._mosaic = mosaic
        self._box: Bounds | None = None
        self._object: Complex64 = np.ones((0, 0), np.complex64)
        self._known = np.zeros((0, 0), np.bool_)

    def take_in(self, box: Bounds) -> None:
        """Let the mosaic say what the object is in a box, where that has not been said before."""
        self._grow(box)
        window = self._window(box)
        fresh = (self._mosaic.image("coverage", box) > 0) & ~self._known[window]
        if fresh.any():
            self._object[window][fresh] = self._mosaic.object(box)[fresh]
            self._known[window] |= fresh

    def patch(self, box: Bounds) -> Complex64:
        """Return a view of a box that was taken in, (H, W), to be refined in place."""
        return self._object[self._window(box)]

    def shown(self, bounds: Bounds) -> Complex64:
        """Return the object within bounds, (H, W): the mosaic's where no frame has been taken in."""
        transmission = self._mosaic.object(bounds)
        if self._box is None:
            return transmission
        common = _meet(bounds, self._box)
        part = _slices(common, bounds)
        window = self._window(common)
        transmission[part] = np.where(self._known[window], self._object[window], transmission[part])
        return transmission

    def _grow(self, box: Bounds) -> None:
        old = self._box
        grown = joined(old, _rounded_outward(box))
        if grown == old:
            return
        shape = grown[2] - grown[0], grown[3] - grown[1]
        transmission, known = np.ones(shape, np.complex64), np.zeros(shape, np.bool_)
        if old is not None:
            transmission[_slices(old, grown)], known[_slices(old, grown)] = self._object, self._known
        self._object, self._known, self._box = transmission, known, grown

    def _window(self, box: Bounds) -> tuple[slice, slice]:
        return _slices(box, self._box or (0, 0, 0, 0))


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
