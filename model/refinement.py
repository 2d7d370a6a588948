"""Refine an object frame by frame against the measured patterns, with a known probe. NumPy only.

The engine is rPIE (Maiden, Johnson & Li, Optica 4, 736 (2017)) with several incoherent modes of the probe
(Thibault & Menzel, Nature 494, 68 (2013)); the probe stays as it is. The object lies on whole pixels, the
probe is shifted by what remains of a scan position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.optics import intensity, shifted_probes

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Real = NDArray[np.floating[Any]]

SHIFTS_A_PIXEL = 8  # finer ones changed neither residual nor phase of a measured scan

_CACHE_BYTES = 64 << 20
_FAINTEST = 1e-6  # square-root photons: below, a pixel's phase is not known


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame's patch lies on the grid of the object.

    Attributes:
        top, left: first row and column of the patch.
        shift: down and right, by which the probe is shifted in it, in eighths of a pixel, 0 … 7.
    """

    top: int
    left: int
    shift: tuple[int, int]


def placement(centre_px: tuple[float, float], frame_shape: tuple[int, int]) -> Placement:
    """Return the patch whose pixel [H // 2, W // 2] is at a probe's centre (row, column)."""
    (y, down), (x, right) = (divmod(round(centre * SHIFTS_A_PIXEL), SHIFTS_A_PIXEL) for centre in centre_px)
    return Placement(y - frame_shape[0] // 2, x - frame_shape[1] // 2, (down, right))


@dataclass(frozen=True, slots=True)
class Misfit:
    """How far modelled patterns are from measured ones; misfits of frames add up.

    Attributes:
        error: Σ(√I − √Î)² over the valid pixels.
        photons: ΣI over the same.
    """

    error: float = 0.0
    photons: float = 0.0

    def __add__(self, other: Misfit) -> Misfit:
        return Misfit(self.error + other.error, self.photons + other.photons)

    @property
    def residual(self) -> float:
        """√(Σ(√I − √Î)² / ΣI); 0 is perfect."""
        return math.sqrt(self.error / max(self.photons, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """The probe at one shift.

    Attributes:
        probe: (M, H, W) modes.
        gain: (H, W), one over what rPIE divides by.
    """

    probe: Complex64
    gain: Float32


class ObjectRefinement:
    """Moves patches of an object towards the frames that were measured on them.

    Args:
        probe: (M, H, W) complex64 modes, square-root photons a pixel.
        invalid_counts: a count at or above this says nothing: the pattern stays as modelled there.
        alpha: rPIE's α in (0, 1]: 1 is ePIE, smaller ones step further where little light falls.
        step: share of rPIE's step in (0, 1]. The object ends near what the last frames say; where many noisy
            frames see a pixel, shorter steps let it be what they say on average.

    Attributes:
        step: as given; may be changed between updates.

    Raises:
        ValueError: the probe has no light, or α or the step is out of its range.
    """

    def __init__(
        self, probe: Complex64, invalid_counts: float = math.inf, alpha: float = 0.6, step: float = 1.0
    ) -> None:
        if not (0 < alpha <= 1 and 0 < step <= 1 and probe.any()):
            raise ValueError(
                f"refinement needs a probe with light, 0 < α ≤ 1 and 0 < step ≤ 1, not {alpha} and {step}"
            )
        self._invalid_counts = invalid_counts
        self.step = step
        # Not of a method of this object: it and its cache would refer to each other, and stay for long.
        shifted = partial(_shifted, np.fft.fft2(probe).astype(np.complex64), alpha)
        self._light = lru_cache(max(1, _CACHE_BYTES // probe.nbytes))(shifted)

    def release(self) -> None:
        """Let go of what has been computed ahead; it is computed anew where it is needed."""
        self._light.cache_clear()

    def misfit(self, patch: Complex64, counts: NDArray[Any], shift: tuple[int, int]) -> Misfit:
        """Return how far a patch is from its frame; arguments as of `update`."""
        waves = np.fft.fft2(self._light(shift).probe * patch, norm="ortho")
        return self._compared(np.sqrt(intensity(waves)), counts)[1]

    def update(self, patch: Complex64, counts: NDArray[Any], shift: tuple[int, int]) -> Misfit:
        """Refine a patch in place by one frame, and return how far it was from it before.

        O ← O + Σ_m P_m*·(ψ′_m − ψ_m) / ((1 − α)·Σ|P|² + α·max Σ|P|²), where ψ′ has the measured modulus:
        Ψ′_m = Ψ_m·√(I / Σ|Ψ|²). The update called rPIE by Maiden, Johnson & Li (2017), summed over the modes.

        Args:
            patch: (H, W) complex64 of the object.
            counts: (H, W) photons a pixel, zero frequency at [H // 2, W // 2].
            shift: of its `Placement`.
        """
        light = self._light(shift)
        waves = np.fft.fft2(light.probe * patch, norm="ortho")
        modelled = np.sqrt(intensity(waves))
        difference, misfit = self._compared(modelled, counts)
        waves *= difference / np.maximum(modelled, _FAINTEST)
        change = np.fft.ifft2(waves, norm="ortho")
        patch += np.float32(self.step) * light.gain * (light.probe.conj() * change).sum(axis=0)
        return misfit

    def _compared(self, modelled: Real, counts: NDArray[Any]) -> tuple[Real, Misfit]:
        """Return √I − √Î, (H, W), 0 where the pixel is invalid, and the misfit.

        Zero frequency is at [0, 0] of `modelled` and of the result: small planes are shifted, waves never.
        """
        counts = np.fft.ifftshift(counts)
        valid = counts < self._invalid_counts
        difference = np.where(valid, np.sqrt(counts, dtype=np.float32) - modelled, 0)
        photons = float(counts.sum(where=valid, dtype=np.float64))
        return difference, Misfit(float(np.square(difference).sum(dtype=np.float64)), photons)


def _shifted(spectrum: Complex64, alpha: float, shift: tuple[int, int]) -> _Light:
    """Return the probe of a spectrum (M, H, W) at a shift, in steps of a pixel over `SHIFTS_A_PIXEL`."""
    probe = shifted_probes(spectrum, np.array([shift]) / SHIFTS_A_PIXEL)[0].astype(np.complex64)
    brightness = intensity(probe)
    limit = (1 - alpha) * brightness + alpha * brightness.max()
    return _Light(probe, (1 / limit).astype(np.float32))
