"""The loss that all four baselines share: one error a pixel, of amplitude and of phase, summed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.method import ScalarPrediction
from training.simulation.factory import Sample


def pixel_loss(
    error: Callable[[Tensor, Tensor], Tensor], prediction: ScalarPrediction, truth: Sample
) -> dict[str, Tensor]:
    """Return the error of the phase, and of the amplitude where one is predicted, and their sum as "loss".

    The phase is compared as a plain number with the truth's in [−π, π]: π and −π are 2π apart.

    Args:
        error: (predicted, true) planes (N, 1, h, w) → mean over all.
        prediction: of the tiles.
        truth: of the same tiles.
    """
    terms = {"phase": error(prediction.phase_rad, torch.atan2(truth.sin, truth.cos))}
    if prediction.amplitude is not None:
        terms["amplitude"] = error(prediction.amplitude, truth.amplitude)
    return {"loss": torch.stack([*terms.values()]).sum(), **terms}
