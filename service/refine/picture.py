"""A refined object in the shape in which everybody takes a mosaic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.messages import Float32, Tiles
from service.mosaic import Bounds, Complex64, Mosaic


def as_mosaic(transmission: Complex64, coverage: Float32, bounds: Bounds, object_pixel_m: float) -> Mosaic:
    """Return an object as a mosaic, so that whatever shows, judges or keeps mosaics takes it too.

    Its one tile weighs what the coverage says: dark pixels stay dark. Coverage is relative to its greatest.

    Args:
        transmission: (H, W) complex64.
        coverage: (H, W) ≥ 0, positive somewhere.
        bounds: of both on the pixels of the scan.
        object_pixel_m: pixel of the object, metres.

    Raises:
        ValueError: there is no light anywhere.
    """
    mosaic = Mosaic(1.0, coverage)  # in pixels first: metres would be rounded off the grid
    height, width = coverage.shape
    unit: NDArray[np.complex64] = np.exp(np.complex64(1j) * np.angle(transmission))
    mosaic.add(
        Tiles(
            scan="",
            indices=np.zeros(1, np.int64),
            positions_m=np.array([[bounds[0] + height // 2, bounds[1] + width // 2]], np.float64),
            amplitude=np.abs(transmission)[None],
            cos=unit.real[None],
            sin=unit.imag[None],
            received_ns=np.zeros(1, np.int64),
        )
    )
    mosaic.object_pixel_m = object_pixel_m
    return mosaic
