"""PtychoNN: an encoder and two decoders on raw counts.

Cherukara et al., Appl. Phys. Lett. 117, 044103 (2020); layers and schedule from mcherukara/PtychoNN,
`PyTorch/CNN_encoder_decoder`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import NetworkConfig
from training.baselines.pixel_loss import pixel_loss
from training.method import Method, Recipe, ScalarPrediction
from training.simulation.factory import Sample


class PtychoNN(nn.Module):
    """Raw counts → amplitude in [0, 1] by sigmoid and phase by π·tanh.

    The edges of the frames must be multiples of 8, which NetworkConfig sees to.
    """

    def __init__(self, _: NetworkConfig) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.encoder = nn.Sequential(
            *(*_two_convolutions(1, 32), pool),
            *(*_two_convolutions(32, 64), pool),
            *(*_two_convolutions(64, 128), pool),
        )
        self.amplitude = _decoder()
        self.phase = _decoder()

    def forward(self, counts: Tensor) -> ScalarPrediction:
        """(N, 1, H, W) counts → planes (N, 1, H, W)."""
        encoded = self.encoder(counts.float())
        amplitude = torch.sigmoid(self.amplitude(encoded).float())
        return ScalarPrediction(amplitude, torch.pi * torch.tanh(self.phase(encoded).float()))


def loss(prediction: ScalarPrediction, truth: Sample) -> dict[str, Tensor]:
    """Return the mean absolute error of the amplitude plus that of the phase."""
    return pixel_loss(functional.l1_loss, prediction, truth)


def _two_convolutions(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
    )


def _decoder() -> nn.Sequential:
    """Features (N, 128, H/8, W/8) → one unbounded plane (N, 1, H, W)."""
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(
        *(*_two_convolutions(128, 128), up),
        *(*_two_convolutions(128, 64), up),
        *(*_two_convolutions(64, 64), up),
        nn.Conv2d(64, 1, 3, padding=1),
    )


METHOD = Method(
    PtychoNN,
    loss,
    Recipe(batch=64, epochs=60, low=1e-4, high=1e-3, half_cycle_epochs=6),
    raw_counts=True,
)
