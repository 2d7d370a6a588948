"""How the power of an image spreads over spatial frequency: what detail a network paints, or leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]

BAND_EDGES = (1 / 6, 1 / 3)  # cycles a pixel: three bands of equal width up to Nyquist's 1/2


@dataclass(frozen=True, slots=True)
class BandShares:
    """Share of an image's energy in three radial bands of spatial frequency; they sum to 1.

    Attributes:
        low: below 1/6 cycle a pixel, the mean left out.
        mid: from 1/6 to below 1/3.
        high: from 1/3 to 1/2. The corners of Fourier space beyond count nowhere.
    """

    low: float
    mid: float
    high: float


def power_spectrum(image: Real) -> Float64:
    """Return |F(image − mean)|² (h, w), unitary, zero frequency at [h // 2, w // 2].

    No window is laid over the image, as in arXiv 2604.26664: what differs between opposite edges shows as
    a cross along the axes, in estimate and truth alike.

    Args:
        image: (h, w) real.
    """
    image = image.astype(np.float64)
    field = np.fft.fftshift(np.fft.fft2(image - image.mean(), norm="ortho"))
    return np.square(np.abs(field))


def radial_mean(spectrum: Real) -> tuple[Float64, Float64]:
    """Return the mean over rings one Fourier pixel wide (of the shorter side), from 0 to Nyquist's 1/2.

    Args:
        spectrum: (h, w), zero frequency at [h // 2, w // 2].

    Returns:
        (rings,) frequency at the middle of each ring, cycles a pixel; (rings,) mean power there.
    """
    side = min(spectrum.shape)
    frequency = np.hypot.outer(*(np.fft.fftshift(np.fft.fftfreq(n)) for n in spectrum.shape))
    ring = np.round(frequency * side).astype(int).ravel()
    rings = side // 2 + 1
    power = np.bincount(ring, spectrum.ravel())[:rings] / np.bincount(ring)[:rings]
    return np.arange(rings) / side, power


def band_shares(image: Real) -> BandShares:
    """Return how an image's energy divides between coarse, middle and fine detail.

    The radial mean of the power spectrum, times the radius, is the energy of a ring; the shares are its
    sums over three bands of equal width (the power spectral density of arXiv 2604.26664). White noise thus
    gives shares as the areas of the bands, 1 : 3 : 5. A flat image has no energy: all are nan.

    Args:
        image: (h, w) real.
    """
    if not np.ptp(image):
        return BandShares(math.nan, math.nan, math.nan)
    frequency, power = radial_mean(power_spectrum(image))
    energy = np.bincount(np.digitize(frequency, BAND_EDGES), frequency * power, minlength=3)
    low, mid, high = (energy / energy.sum()).tolist()
    return BandShares(low, mid, high)
