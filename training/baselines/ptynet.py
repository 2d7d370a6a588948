"""PtyNet: a small encoder and one grouped decoder, half of whose channels make amplitude, half phase.

Pan et al., "Efficient ptychography reconstruction strategy by fine-tuning of large pre-trained deep learning
model", iScience (2023), PMC10687283. Layers from paidaxinbao/PtyNet, `Net1.py`; schedule from its
`main.py` and `train_singlebranch.py`, which train a larger network of the same authors for 1000 epochs by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import NetworkConfig
from training.baselines.pixel_loss import pixel_loss
from training.method import Method, Recipe, ScalarPrediction
from training.simulation.factory import Sample

SLOPE = 0.2  # of the leaky ReLU below zero
DARK = 1e-6  # added to the largest modulus of a frame, which may be zero


class PtyNet(nn.Module):
    """√counts over the frame's largest → amplitude in [−1, 1] and phase in [−π, π], both cut hard.

    The edges of the frames must be multiples of 8, which NetworkConfig sees to.
    """

    def __init__(self, _: NetworkConfig) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_convolution(1, 16),
            *_convolution(16, 16, stride=2),
            *_convolution(16, 16),
            *_convolution(16, 32, stride=2),
            *_convolution(32, 64),
            *_convolution(64, 128, stride=2),
        )
        self.decoder = nn.Sequential(
            *_doubling(128),
            *_doubling(64),
            *_convolution(64, 16),
            *_convolution(16, 2, groups=2),
            _transposed(2),
            nn.Hardtanh(),
        )
        self.apply(_initialise)

    def forward(self, counts: Tensor) -> ScalarPrediction:
        """(N, 1, H, W) counts → planes (N, 1, H, W)."""
        modulus = torch.sqrt(counts.float().clamp_min(0.0))  # readout noise may be below zero
        relative = modulus / (modulus.amax(dim=(-2, -1), keepdim=True) + DARK)
        amplitude, phase = torch.split(self.decoder(self.encoder(relative)).float(), 1, dim=1)
        return ScalarPrediction(amplitude, torch.pi * phase)


def loss(prediction: ScalarPrediction, truth: Sample) -> dict[str, Tensor]:
    """Return the mean squared error of the amplitude plus that of the phase."""
    return pixel_loss(functional.mse_loss, prediction, truth)


def physics_loss(prediction: ScalarPrediction, counts: Tensor, probe: Tensor) -> Tensor:
    """Return mean |I − Σ_m |F(P_m·O)|²|, which needs no label: the term that a trained network is tuned by.

    Published for one mode.

    Args:
        prediction: of the tiles, (N, 1, H, W).
        counts: (N, 1, H, W) photons a pixel, zero frequency at [H // 2, W // 2].
        probe: (M, H, W) complex modes, square-root photons a pixel; F is unitary.

    Raises:
        ValueError: there is no amplitude, or the tiles are not of the probe's size.
    """
    if prediction.amplitude is None:
        raise ValueError("the far field of a tile needs its amplitude, and only a phase is predicted")
    if prediction.phase_rad.shape[-2:] != probe.shape[-2:]:
        raise ValueError(f"tiles {tuple(prediction.phase_rad.shape)} and probe {tuple(probe.shape)} differ")
    tiles = torch.polar(prediction.amplitude.float(), prediction.phase_rad.float())
    waves = torch.view_as_real(torch.fft.fft2(probe * tiles, norm="ortho"))
    pattern = waves.square().sum(dim=(1, -1)).unsqueeze(1)
    return functional.l1_loss(torch.fft.fftshift(pattern, dim=(-2, -1)), counts)


def _convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, groups=groups)
    return convolution, nn.LeakyReLU(SLOPE)


def _transposed(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, groups=2)


def _doubling(inputs: int) -> tuple[nn.Module, ...]:
    """Features (N, inputs, h, w) → (N, 64, 2h, 2w)."""
    grouped = nn.Conv2d(64, 64, 3, padding=1, groups=2, bias=False)
    relu = nn.LeakyReLU(SLOPE)
    return (*_convolution(inputs, 64), grouped, relu, _transposed(64), relu)


def _initialise(layer: nn.Module) -> None:
    """Start a layer as the released code does."""
    if isinstance(layer, nn.Conv2d):
        nn.init.xavier_normal_(layer.weight)
    elif isinstance(layer, nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, std=0.02)
    else:
        return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


METHOD = Method(PtyNet, loss, Recipe(batch=4, epochs=1000, low=1e-5, high=1e-4, half_cycle_epochs=60))
PHYSICS_RECIPE = Recipe(batch=16, epochs=10, low=1e-4, high=1e-4)  # by the physics loss, once trained
HALVING_EPOCHS = 2  # after which the rate of that recipe is halved, again and again
