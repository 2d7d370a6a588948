"""How far a frame's prediction is to be believed, from its forward residual. NumPy only.

Simulated frames that the model never learned from tell which root mean square phase error goes with which
forward residual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import TrustDescription

Float32 = NDArray[np.float32]
Real = NDArray[np.floating[Any]]


def expected_error_rad(residual: Real, trust: TrustDescription) -> Real:
    """Return the root mean square phase error to expect of frames, (n,) radians.

    It is linear between the calibrated pairs and beyond the last one, and constant below the first.

    Args:
        residual: (n,) forward residuals; what is not finite expects an infinite error.
        trust: the calibration.
    """
    residuals, errors_rad = np.array(trust.error_rad).T
    slope = (errors_rad[-1] - errors_rad[-2]) / (residuals[-1] - residuals[-2])
    beyond = np.maximum(residual - residuals[-1], 0)
    expected = np.interp(residual, residuals, errors_rad) + slope * beyond
    return np.where(np.isfinite(residual), expected, np.inf)


def tile_confidence(residual: Real | None, trust: TrustDescription | None) -> Float32 | None:
    """Return how far frames that the model does not explain are to be believed, (n,) float32 in [0, 1].

    1 for residuals as they were in calibration: among those the agreement of overlapping tiles ranks errors
    better than any frame's residual does, which counting noise alone moves (docs/results.md). Beyond them
    exp(−(σ² − σ₉₉²)/2), the expected cosine of a normal error of the variance that the frame has on top of
    that of the worst calibrated ones (Mardia & Jupp, Directional Statistics, 2000, eq. 3.5.63).

    Args:
        residual: (n,) forward residuals, or None.
        trust: the model's calibration, or None.

    Returns:
        The confidence, 0 where a residual is not finite; None where there is nothing to tell it by.
    """
    if residual is None or trust is None:
        return None
    worst_rad = expected_error_rad(np.array([trust.residual[1]]), trust)
    excess = np.square(expected_error_rad(residual, trust)) - np.square(worst_rad)
    confidence: Float32 = np.exp(-np.maximum(excess, 0) / 2).astype(np.float32)
    return confidence
