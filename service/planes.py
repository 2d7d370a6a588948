"""What the sums of a mosaic show: one plane a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.messages import Float32

SUMS = 5  # w, w·A, w·cos φ, w·sin φ, w·(1 − confidence)

_FAINTEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """What a part of the mosaic shows, each (H, W) float32, 0 where no light fell.

    Attributes:
        amplitude: of the object.
        phase: radians in [−π, π].
        agreement: |Σ w e^{iφ}| / Σ w in [0, 1]; 1 where all tiles say the same phase.
        coverage: Σ w, where one tile's brightest pixel gives 1.
        confidence: mean confidence of the tiles × agreement, in [0, 1]; the agreement where they have none.
    """

    amplitude: Float32
    phase: Float32
    agreement: Float32
    coverage: Float32
    confidence: Float32


def _coverage(sums: Float32) -> Float32:
    coverage: Float32 = sums[0]
    return coverage


def _amplitude(sums: Float32) -> Float32:
    return _over_weight(sums[1], sums[0])


def _agreement(sums: Float32) -> Float32:
    resultant: Float32 = np.hypot(sums[2], sums[3])
    agreement: Float32 = np.minimum(_over_weight(resultant, sums[0]), 1)  # rounding may exceed 1
    return agreement


def _confidence(sums: Float32) -> Float32:
    return _trusted(sums, _agreement(sums))


def _trusted(sums: Float32, agreement: Float32) -> Float32:
    of_tiles: Float32 = np.clip(1 - _over_weight(sums[4], sums[0]), 0, 1)
    return of_tiles * agreement  # 0 in the dark, where nothing agrees


def _phase(sums: Float32) -> Float32:
    # sums start at +0.0, so that atan2(0, 0) is 0 and never ±π
    phase: Float32 = np.arctan2(sums[3], sums[2])
    return phase


def _over_weight(values: Float32, weight: Float32) -> Float32:
    ratio = np.zeros_like(values)
    np.divide(values, weight, out=ratio, where=weight > _FAINTEST)
    return ratio


CHANNELS = {
    "amplitude": _amplitude,
    "phase": _phase,
    "agreement": _agreement,
    "coverage": _coverage,
    "confidence": _confidence,
}


def show(sums: Float32) -> Planes:
    """Return all channels of the sums (SUMS, H, W)."""
    agreement = _agreement(sums)
    return Planes(
        amplitude=_amplitude(sums),
        phase=_phase(sums),
        agreement=agreement,
        coverage=_coverage(sums),
        confidence=_trusted(sums, agreement),
    )
