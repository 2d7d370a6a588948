"""Whether a mosaic is to be believed on a scan: how far it explains the frames, and that in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.judge import FourierRings, Likeness, forward_residual
from model.optics import far_field
from training.reporting.report import Trust, Verdict

Complex64 = NDArray[np.complex64]

GOOD, FAIR = 0.85, 0.5  # shares of what can be explained that a mosaic explains
ALIKE, RELATED = 0.9, 0.7  # correlations with a reference
_BATCH = 32
_ORDER: tuple[Trust, ...] = ("poor", "fair", "good")
_HEADLINES: dict[Trust, str] = {
    "good": "The phase can be trusted as a live preview of this scan.",
    "fair": "Use it to find your way on the sample, not to measure: it explains the frames only in part.",
    "poor": "Do not trust this model on this scan.",
}


@dataclass(frozen=True, slots=True)
class Residuals:
    """Forward residuals √(Σ(√I − √Î)² / ΣI) over the same frames; 0 is perfect (model.judge).

    Attributes:
        mosaic: of the network's mosaic.
        empty: of no object at all, the beam alone.
        noise: what counting noise alone would leave if the best object known were the true one.
        reference: of the iterative reconstruction, None where there is none.
    """

    mosaic: float
    empty: float
    noise: float
    reference: float | None = None

    @property
    def explained(self) -> float:
        """Share of the way from the empty object to the reference, else to the counting noise."""
        best = self.noise if self.reference is None else self.reference
        return (self.empty - self.mosaic) / (self.empty - best) if self.empty > best else 0.0


def counting_noise(
    probe: Complex64, transmission: Complex64, top_left_px: NDArray[np.floating[Any]], seed: int = 0
) -> float:
    """Return the residual that Poisson noise alone leaves: frames drawn from an object, against it.

    Args:
        probe: (M, H, W) modes, square-root photons a pixel.
        transmission: (Y, X) object.
        top_left_px: (n, 2) top-left corner of each frame's patch; taken at whole pixels.
        seed: of the noise.

    Raises:
        ValueError: a patch reaches beyond the object.
    """
    rng = np.random.default_rng(seed)
    height, width = probe.shape[1:]
    corners = np.rint(top_left_px).astype(int)
    drawn = np.empty((len(corners), height, width), np.int64)
    for start in range(0, len(corners), _BATCH):
        some = corners[start : start + _BATCH].tolist()
        patches = np.stack([transmission[y : y + height, x : x + width] for y, x in some])
        drawn[start : start + _BATCH] = rng.poisson(far_field(probe, patches))
    return forward_residual(probe, transmission, drawn, corners.astype(float))


def verdict(
    residuals: Residuals,
    likeness: Likeness | None = None,
    rings: FourierRings | None = None,
    pixel_m: float | None = None,
    cautions: tuple[str, ...] = (),
) -> Verdict:
    """Return what a scientist should think of a mosaic, and why.

    Args:
        residuals: over the frames that it was made of.
        likeness: with the reference, None where there is none.
        rings: Fourier ring correlation with the reference.
        pixel_m: of the object, metres.
        cautions: further sentences.
    """
    trust = _graded(residuals.explained, GOOD, FAIR)
    reasons = [_explanation(residuals)]
    if likeness is not None:
        trust = min(trust, _graded(likeness.phase_correlation, ALIKE, RELATED), key=_ORDER.index)
        reasons += _comparison(likeness)
    if rings is not None and pixel_m is not None:
        reasons.append(_detail(rings, pixel_m))
    return Verdict(trust, _HEADLINES[trust], (*reasons, *cautions))


def _graded(share: float, good: float, fair: float) -> Trust:
    if share >= good:
        return "good"
    return "fair" if share >= fair else "poor"


def _explanation(r: Residuals) -> str:
    share = f"{100 * r.explained:.0f} %"
    ends = f"An empty object leaves {r.empty:.3f}, counting noise alone would leave {r.noise:.3f}"
    if r.reference is None:
        return (
            f"The mosaic leaves a forward residual of {r.mosaic:.3f}. {ends}: it goes {share} of that way. "
            "This scan has no reference, so only the frames themselves judge the mosaic."
        )
    return (
        f"The mosaic leaves a forward residual of {r.mosaic:.3f}, the iterative reference {r.reference:.3f}. "
        f"{ends}. So the mosaic goes {share} of the way from no object to the reference."
    )


def _comparison(likeness: Likeness) -> list[str]:
    phase = (
        f"Its phase differs from the reference by {likeness.phase_rms_rad:.3f} rad RMS "
        f"(correlation {likeness.phase_correlation:.3f}), one global phase removed."
    )
    amplitude = likeness.amplitude_correlation
    known = (
        "follows" if amplitude >= ALIKE else "follows in part" if amplitude >= RELATED else "does not follow"
    )
    warning = "" if amplitude >= RELATED else " Do not read its amplitude."
    return [
        phase,
        f"Its amplitude {known} the reference's (correlation {amplitude:.3f}, error "
        f"{likeness.amplitude_rms:.3f} RMS).{warning}",
    ]


def _detail(rings: FourierRings, pixel_m: float) -> str:
    finest, coarsest = (
        side * pixel_m * 1e9
        for side in (rings.resolution_px(rings.half_bit), rings.coarsest_px(rings.half_bit))
    )
    if not np.isfinite(finest):
        return "No size of detail agrees with the reference above the half-bit threshold."
    if not np.isfinite(coarsest):
        return f"Details down to {finest:.0f} nm (half period) agree with the reference above half a bit."
    return (
        f"Details of {finest:.0f} to {coarsest:.0f} nm (half period) agree with the reference above half a "
        "bit; slower changes of phase across the field may be wrong."
    )
