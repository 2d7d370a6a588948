"""The angle of a tile that no diffraction pattern holds, found from the tiles around it. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating[Any, Any]]

ROUNDS = 6
"""How often each tile of a scan is turned to fit all others, unless it fits before."""

_LEAST_OVERLAP = 1e-3  # of the tile with itself: below, what is under it is rounding


def fitting_turn(weighted: Complex, others: Complex) -> complex:
    """Return the e^{iθ} that turns a tile to fit best what others say of its pixels, θ = arg Σ w·M·conj(T).

    M is the weighted sum of the others, not their mean: that angle makes Σ|M + w·T|² greatest, and pixels
    count by how many tiles already speak for them. It is 1 where there are hardly others.

    Args:
        weighted: (H, W) w·T of the tile.
        others: (H, W) M on the same pixels.
    """
    overlap = complex((weighted.conj() * others).sum(dtype=np.complex128))
    itself = float(np.square(np.abs(weighted)).sum(dtype=np.float64))
    return overlap / abs(overlap) if abs(overlap) > _LEAST_OVERLAP * itself else 1.0
