"""One training run without labels in plain values."""

from __future__ import annotations

from dataclasses import dataclass

from training.datasets.splits import SplitName
from training.plan import TrainingPlan

FINE_TUNING_RATE = 1e-4  # a tenth of the rate that a network learns with from nothing


@dataclass(frozen=True, slots=True)
class SelfSupervisedPlan(TrainingPlan):
    """One training run on the measured frames of a scan; `probe` is that scan.

    Attributes:
        consistency: weight of the disagreement of neighbouring tiles.
        gauge: weight of what binds a tile's absolute phase.
        split: of the scan, whose test part is not looked at; None: no frames are kept for a test.
    """

    spread: bool = False  # without labels nothing teaches it; a network that is tuned keeps what it has
    consistency: float = 1.0
    gauge: float = 0.1
    split: SplitName | None = None
