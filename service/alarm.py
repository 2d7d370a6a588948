"""Does the stream still look like what the model was trained for? Exposure and forward residual say so.

Pure: it is handed what the frames hold, and what runs the model where it wants to try something out.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import TrustDescription
from model.orientation import Orientation
from service.orientations import Explain, Real, contenders, orientation_residuals

RETRAIN = "`ptycholive retrain` makes a model for what the stream is now"
_WINDOW = 64  # frames; half of them decide the median
_FEWEST = 8


class Trust(StrEnum):
    """Whether the model is to be believed."""

    GOOD = "good"
    EXPOSURE = "exposure"
    RESIDUAL = "residual"
    UNKNOWN = "unknown"


class Alarm:
    """Watches one scan's frames, and says once each when exposure or residual leave the range of training.

    Args:
        trust: the model's calibration; without it nothing can be said.
    """

    def __init__(self, trust: TrustDescription | None) -> None:
        self._trust = trust
        self._frame_counts: deque[float] = deque(maxlen=_WINDOW)
        self._residuals: deque[float] = deque(maxlen=_WINDOW)
        self._raised: set[Trust] = set()

    @property
    def needs_residuals(self) -> bool:
        """Whether there are too few residuals yet to judge by."""
        return len(self._residuals) < _FEWEST

    def note(self, frame_counts: Real, residuals: Real) -> None:
        """Take in the photons of some frames (n,), and forward residuals (m,) as far as they are finite."""
        self._frame_counts.extend(frame_counts.tolist())
        self._residuals.extend(residuals[np.isfinite(residuals)].tolist())

    def raised(self, frame: int, counts: NDArray[Any], explain: Explain) -> dict[Trust, str]:
        """Return what is wrong now and was not told before, a line each.

        Args:
            frame: number of the newest frame.
            counts: (k, 1, H, W) a few of the newest frames, to be tried in other orientations, once.
            explain: returns the forward residuals (k,) of frames (k, 1, H, W).
        """
        trust = self._trust
        if trust is None:
            return {}
        lines: dict[Trust, str] = {}
        if self._exposure_is_off(trust) and self._first(Trust.EXPOSURE):
            lines[Trust.EXPOSURE] = self._exposure_in_words(trust, frame)
        if self._residual_is_off(trust) and self._first(Trust.RESIDUAL):
            cause = self._cause(trust, counts, explain)
            lines[Trust.RESIDUAL] = f"{self._residual_in_words(trust, frame)}: {cause}"
        return lines

    def state(self) -> Trust:
        """Return how things stand over the last frames."""
        trust = self._trust
        if trust is None:
            return Trust.UNKNOWN
        if self._exposure_is_off(trust):
            return Trust.EXPOSURE
        if self._residual_is_off(trust):
            return Trust.RESIDUAL
        return Trust.UNKNOWN if self.needs_residuals else Trust.GOOD

    def report(self) -> dict[str, Any]:
        """Return how things stand, as plain values."""
        return {
            "state": self.state().value,
            "residual_median": _median(self._residuals),
            "frame_counts_median": _median(self._frame_counts),
        }

    def _first(self, about: Trust) -> bool:
        """Whether this is said for the first time."""
        first = about not in self._raised
        self._raised.add(about)
        return first

    def _exposure_is_off(self, trust: TrustDescription) -> bool:
        low, high = trust.frame_counts
        median = _median(self._frame_counts)
        return median is not None and not low <= median <= high

    def _residual_is_off(self, trust: TrustDescription) -> bool:
        median = _median(self._residuals)
        return median is not None and median > trust.residual[1]

    def _exposure_in_words(self, trust: TrustDescription, frame: int) -> str:
        low, high = trust.frame_counts
        median = _median(self._frame_counts) or 0.0
        return (
            f"exposure is {median / np.sqrt(low * high):.2g} times what the model was trained for "
            f"({median:.3g} photons a frame, {low:.3g} to {high:.3g} in training; noticed at frame {frame}): "
            f"check dwell time, attenuators and beam current; if this is meant, {RETRAIN}"
        )

    def _residual_in_words(self, trust: TrustDescription, frame: int) -> str:
        median = _median(self._residuals) or 0.0
        return (
            f"the model does not explain these frames (forward residual {median:.3f}, "
            f"at most {trust.residual[1]:.3f} in training; noticed at frame {frame})"
        )

    def _cause(self, trust: TrustDescription, counts: NDArray[Any], explain: Explain) -> str:
        found = find_orientation(counts, explain)
        if found is not None:
            looks, residual = found
            after = f"({residual:.3f} once undone)"
            return f"the frames look {looks.words} {after}: `ptycholive check --orient` names the settings"
        if self._exposure_is_off(trust):
            return "their exposure may be why"
        return f"another probe or sample than the model was made for; {RETRAIN}"


def find_orientation(counts: NDArray[Any], explain: Explain) -> tuple[Orientation, float] | None:
    """Return what has been done to frames, if undoing it explains them clearly better than all else.

    Args:
        counts: (k, 1, H, W) frames.
        explain: returns the forward residuals (k,) of frames (k, 1, H, W).

    Returns:
        How the frames lie, and their median residual when that is undone; None where they lie as they
        should, or where no orientation stands out.
    """
    residuals = orientation_residuals(counts, explain)
    best, *others = contenders(residuals) or [Orientation.UPRIGHT]
    if others or best is Orientation.UPRIGHT:
        return None
    return best.inverse, residuals[best]


def _median(values: deque[float]) -> float | None:
    """Return the median, None while there are too few to judge by."""
    return float(np.median(tuple(values))) if len(values) >= _FEWEST else None
