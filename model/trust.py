"""How far a prediction is to be believed: from the forward residual and the network's own spread. NumPy only.

What is calibrated is the frame: simulated frames that the model never learned from tell which root mean
square phase error goes with which forward residual. How that error lies within the tile the network says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import TrustDescription

Float32 = NDArray[np.float32]
Real = NDArray[np.floating[Any]]

_SMALLEST_RAD = 1e-6  # a spread below it cannot be scaled


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


def tile_confidence(
    spread_rad: Float32 | None, residual: Float32 | None, trust: TrustDescription | None, weight: Float32
) -> Float32 | None:
    """Return the expected cosine of the phase error of every pixel, exp(−σ²/2), (n, h, w) float32 in [0, 1].

    That is the mean resultant length of a wrapped normal error of circular standard deviation σ (Mardia &
    Jupp, Directional Statistics, 2000, eq. 3.5.63). With residual and trust a frame's σ is the error expected
    of it, shared among the pixels as the spread says, or evenly; without them σ is the spread alone.

    Args:
        spread_rad: (n, h, w) circular standard deviation that the network predicts, or None.
        residual: (n,) forward residuals, or None.
        trust: the model's calibration, or None.
        weight: (h, w) ≥ 0, light on the pixels; the squared error of a frame is its mean by this weight.

    Returns:
        The confidence, 0 where a number is not finite; None where neither spread nor residual tells anything.
    """
    if residual is not None and trust is not None:
        error_rad = expected_error_rad(residual, trust)[:, None, None]
        shares = np.ones((1, *weight.shape)) if spread_rad is None else _shares(spread_rad, weight)
        sigma_rad = error_rad * shares
    elif spread_rad is not None:
        sigma_rad = spread_rad
    else:
        return None
    with np.errstate(over="ignore"):
        confidence: Float32 = np.exp(-np.square(sigma_rad) / 2).astype(np.float32)
    return np.nan_to_num(confidence, copy=False)


def _shares(spread_rad: Float32, weight: Float32) -> Real:
    """Return the spread over its root mean square by light, (n, h, w); even where there is next to none."""
    mean_square = np.einsum("nyx,yx->n", np.square(spread_rad), weight) / weight.sum()
    rms_rad = np.sqrt(mean_square)[:, None, None]
    return np.where(rms_rad < _SMALLEST_RAD, 1.0, spread_rad / np.maximum(rms_rad, _SMALLEST_RAD))
