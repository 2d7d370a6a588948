"""The object under refinement: a plane on the mosaic's grid that grows where frames come in."""

from __future__ import annotations

import numpy as np

from service.mosaic import Bounds, Complex64
from service.refine.plane import Plane
from service.refine.turned import TurnedMosaic


class Canvas:
    """A complex object, 1 where nothing is known of it; pixel (0, 0) is that of the mosaic.

    Args:
        start: says what the object is wherever a frame comes in.
    """

    def __init__(self, start: TurnedMosaic) -> None:
        self._start = start
        self._object = Plane(np.complex64(1))
        self._known = Plane(np.bool_(False))

    def take_in(self, box: Bounds) -> None:
        """Let the start say what the object is in a box, where that has not been said before."""
        known, transmission = self._known.view(box), self._object.view(box)
        fresh = (self._start.coverage(box) > 0) & ~known
        if fresh.any():
            transmission[fresh] = self._start.object(box)[fresh]
            known |= fresh

    def patch(self, box: Bounds) -> Complex64:
        """Return a view of a box that was taken in, (H, W), to be refined in place."""
        return self._object.view(box)

    def shown(self, bounds: Bounds) -> Complex64:
        """Return the object within bounds, (H, W): the start's where no frame has been taken in."""
        transmission = self._start.object(bounds)
        part, known = self._known.within(bounds)
        transmission[part] = np.where(known, self._object.within(bounds)[1], transmission[part])
        return transmission
