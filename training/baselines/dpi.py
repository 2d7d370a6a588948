"""DPI, deep phase imaging: a residual U-Net from the modulus of the pattern to the phase alone.

Chang et al., Phys. Rev. Lett. 130, 016101 (2023); layers and schedule from dillanchang/deep-phase-imaging,
`0_train-cnn`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import NetworkConfig
from training.baselines.keras_defaults import batch_norm, glorot
from training.baselines.pixel_loss import pixel_loss
from training.method import Method, Recipe, ScalarPrediction
from training.simulation.factory import Sample

DROPOUT = 0.2

_Resize = Literal["same", "down", "up"]


class ResidualBlock(nn.Module):
    """Two times batch norm, ReLU, 3×3 convolution, beside a 3×3 convolution of the input.

    The first convolution and the one beside it halve or double the resolution where asked to.
    """

    def __init__(self, inputs: int, outputs: int, resize: _Resize = "same") -> None:
        super().__init__()
        self.straight = nn.Sequential(
            batch_norm(inputs),
            nn.ReLU(),
            _convolution(inputs, outputs, resize),
            batch_norm(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, "same"),
        )
        self.beside = _convolution(inputs, outputs, resize)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) → (N, outputs, h', w')."""
        result: Tensor = self.straight(x) + self.beside(x)
        return result


class DeepPhaseImaging(nn.Module):
    """√counts → phase; the last layer is linear, so the phase is unbounded.

    Raises:
        ValueError: an edge of the frames is not a multiple of 16, which four halvings need.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if any(n % 16 for n in config.frame_shape):
            raise ValueError(f"DPI halves a frame four times: {config.frame_shape} must be multiples of 16")
        self.down = nn.ModuleList(
            [ResidualBlock(1, 16), _level(16, 32, "down"), _level(32, 64, "down"), _level(64, 128, "down")]
        )
        self.bottom = _level(128, 256, "down")
        self.up = nn.ModuleList(
            [_level(256, 256, "up"), _level(384, 128, "up"), _level(192, 64, "up"), _level(96, 32, "up")]
        )
        self.head = nn.Sequential(ResidualBlock(48, 32), ResidualBlock(32, 1))
        self.dropout = nn.Dropout(DROPOUT)
        glorot(self)

    def forward(self, counts: Tensor) -> ScalarPrediction:
        """(N, 1, H, W) counts → phase (N, 1, H, W)."""
        x = torch.sqrt(counts.float().clamp_min(0.0))  # readout noise may be below zero
        skips: list[Tensor] = []
        for level in self.down:
            features = level(x)
            skips.append(self.dropout(features))  # what is dropped here and below is not the same
            x = self.dropout(features)
        x = self.dropout(self.bottom(x))
        for level in self.up:
            x = torch.cat([self.dropout(level(x)), skips.pop()], dim=1)
        return ScalarPrediction(None, self.head(x).float())


def loss(prediction: ScalarPrediction, truth: Sample) -> dict[str, Tensor]:
    """Return the mean absolute error of the phase.

    The released code counts only pixels where the probe is brighter than 0.16 of its peak, and only the
    first frame of each batch; here every pixel of every frame counts, as for the other methods.
    """
    return pixel_loss(functional.l1_loss, prediction, truth)


def _convolution(inputs: int, outputs: int, resize: _Resize) -> nn.Module:
    """Return a 3×3 convolution; Keras aligns strided ones to the other edge, a mirror image of these."""
    if resize == "up":
        return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return nn.Conv2d(inputs, outputs, 3, stride=1 if resize == "same" else 2, padding=1)


def _level(inputs: int, outputs: int, resize: _Resize) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inputs, outputs, resize), ResidualBlock(outputs, outputs))


METHOD = Method(
    DeepPhaseImaging,
    loss,
    Recipe(batch=16, epochs=100, optimiser="sgd", low=1e-4, high=1e-4),
    raw_counts=True,
)
