"""What a published method is made of: a network, the loss it learns by, and its schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from model.network import NetworkConfig, Prediction
from training.simulation.factory import Sample


class ScalarPrediction(NamedTuple):
    """What a network with a phase of plain numbers says of a tile, each (N, 1, h, w).

    Attributes:
        amplitude: None from a network that predicts phase only.
        phase_rad: a number that does not know of 2π.
    """

    amplitude: Tensor | None
    phase_rad: Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a method is trained as published.

    Attributes:
        batch: frames a step.
        epochs: passes over the training frames.
        optimiser: "adam" or plain "sgd".
        low, high: learning rates of the triangular2 cycle; equal: the rate is constant.
        half_cycle_epochs: of the cycle.
        clip: of the gradient's norm, None without.
    """

    batch: int = 64
    epochs: int = 25
    optimiser: Literal["adam", "sgd"] = "adam"
    low: float = 1e-4
    high: float = 1e-3
    half_cycle_epochs: int = 6
    clip: float | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A method that can be trained on a labelled set.

    Attributes:
        build: makes the network; it takes raw intensities (N, 1, H, W) and scales them itself.
        loss: (what the network said, the truth) → terms by name, their sum under "loss".
        recipe: how it is trained as published.
        raw_counts: it was published on photons, not on normalised intensities.
    """

    build: Callable[[NetworkConfig], nn.Module]
    loss: Callable[[Any, Sample], dict[str, Tensor]]
    recipe: Recipe
    raw_counts: bool = False


def read_out(output: Prediction | ScalarPrediction) -> ScalarPrediction:
    """Return amplitude and phase of whatever kind of prediction; a circular phase lies in [−π, π]."""
    if isinstance(output, ScalarPrediction):
        return output
    return ScalarPrediction(output.amplitude, torch.atan2(output.sin, output.cos))
