"""Where things lie: the object's pixel, scan positions in pixels, overlap, and where the light falls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def object_pixel_m(wavelength_m: float, distance_m: float, detector_pixel_m: float, pixels: int) -> float:
    """Return the pixel of the object in the far field, λz / (NΔ), metres.

    Rodenburg & Maiden, Springer Handbook of Microscopy, chap. 17 (2019), sec. 17.3.

    Args:
        wavelength_m: λ.
        distance_m: z, from the sample to the detector.
        detector_pixel_m: Δ.
        pixels: N, of the diffraction pattern along one side.

    Raises:
        ValueError: one of them is not positive.
    """
    if not min(wavelength_m, distance_m, detector_pixel_m, pixels) > 0:
        raise ValueError(
            f"wavelength {wavelength_m} m, distance {distance_m} m, detector pixel {detector_pixel_m} m "
            f"and {pixels} pixels must all be positive"
        )
    return wavelength_m * distance_m / (pixels * detector_pixel_m)


def to_pixels(positions_m: NDArray[np.float64], object_pixel_m: float) -> NDArray[np.float64]:
    """Return scan positions (…, 2) y, x in object pixels, with their fractions."""
    return positions_m / object_pixel_m


def overlap(step_m: float, probe_diameter_m: float) -> float:
    """Return the linear overlap of neighbouring positions, 1 − step / diameter; negative where they part.

    Raises:
        ValueError: the diameter is not positive.
    """
    if not probe_diameter_m > 0:
        raise ValueError(f"the diameter of the probe must be positive, not {probe_diameter_m} m")
    return 1 - step_m / probe_diameter_m


def probe_weight(
    probe: NDArray[np.complexfloating[Any, Any]], tile_shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return how much light falls on each pixel of a tile, its maximum 1.

    The intensity Σ_m |P_m|², smoothed by a binomial kernel of five pixels so that speckle in a retrieved
    probe does not print through the mosaic, and cropped about the pixel [H // 2, W // 2].

    Args:
        probe: (modes, H, W) complex.
        tile_shape: (h, w) ≤ (H, W).

    Returns:
        (h, w) float32 in [0, 1].

    Raises:
        ValueError: the tile is larger than the probe, or the probe is dark there.
    """
    height, width = tile_shape
    top, left = (full // 2 - part // 2 for full, part in zip(probe.shape[1:], tile_shape, strict=True))
    if top < 0 or left < 0:
        raise ValueError(f"a tile of {tile_shape} pixels is larger than its probe of {probe.shape[1:]}")
    intensity = np.square(np.abs(probe)).sum(axis=0)
    weight = _smoothed(_smoothed(intensity).T).T[top : top + height, left : left + width]
    if not weight.max() > 0:
        raise ValueError("the probe has no light within the tile")
    normalised: NDArray[np.float32] = (weight / weight.max()).astype(np.float32)
    return normalised


def _smoothed(image: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Smooth (H, W) down the columns; beyond the edges it is dark."""
    reach = len(_BINOMIAL) // 2
    padded = np.pad(image, ((reach, reach), (0, 0)))
    return sum((k * padded[i : i + len(image)] for i, k in enumerate(_BINOMIAL)), np.zeros_like(image))
