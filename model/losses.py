"""The composite loss, a function a term (arXiv 2604.26664, eq. 6-11; weights from the released code).

Every term takes planes (N, 1, h, w) and an optional weight (1, 1, h, w) of mean 1: where the light is, the
tile is known. A term that loses a border (finite differences, windows of SSIM) crops the weight with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.network import Prediction
from model.spread import von_mises_nll


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the terms; the defaults are the paper's.

    Attributes:
        pixel: how the pixel terms of amplitude, cos and sin count an error.
        likelihood: of the Poisson deviance between the patterns of the predicted and of the true tile
            (model.likelihood); the paper has no such term, as it knows no probe.
        spread: of the spread's likelihood, where the network says how sure it is.
    """

    pixel: Literal["squared", "absolute"] = "squared"
    phase: float = 1.3
    consistency: float = 0.1
    circular: float = 0.6
    gradient: float = 0.12
    ssim: float = 0.1
    likelihood: float = 0.0
    spread: float = 0.1


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of (N, 1, h, w) under a weight of mean 1."""
    return values.mean() if weight is None else (values * weight).mean()


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error."""
    return weighted_mean(torch.square(a - b), weight)


def pixel_error(a: Tensor, b: Tensor, weight: Tensor | None, k: LossWeights) -> Tensor:
    """Return the mean squared or absolute error, as the weights say."""
    return squared_error(a, b, weight) if k.pixel == "squared" else weighted_mean(torch.abs(a - b), weight)


def circular_error(
    cos: Tensor, sin: Tensor, true_cos: Tensor, true_sin: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return mean(1 - cos Δφ), half the squared chord: at most 2, smooth everywhere, about Δφ²/2 near 0.

    For points on the unit circle MSE(c) + MSE(s) is exactly twice this, so beside those terms it only
    changes their weight.
    """
    return weighted_mean(1.0 - (cos * true_cos + sin * true_sin), weight)


def gradient_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return half the L1 difference of the horizontal plus that of the vertical finite differences."""
    d = a - b
    horizontal, vertical = torch.abs(torch.diff(d, dim=-1)), torch.abs(torch.diff(d, dim=-2))
    if weight is None:
        return 0.5 * (horizontal.mean() + vertical.mean())
    return 0.5 * ((horizontal * weight[..., :, 1:]).mean() + (vertical * weight[..., 1:, :]).mean())


def _gaussian_window() -> Tensor:
    """Return the window of SSIM, 11 pixels at σ = 1.5, of sum 1."""
    x = torch.arange(-5, 6)
    gaussian = torch.exp(-(x**2) / (2 * 1.5**2))
    return gaussian / gaussian.sum()


def _blur(x: Tensor, window: Tensor) -> Tensor:
    """Smooth (N, 1, h, w) → (N, 1, h - 10, w - 10)."""
    x = functional.conv2d(x, window.reshape(1, 1, 1, -1))
    return functional.conv2d(x, window.reshape(1, 1, -1, 1))


def structural_dissimilarity(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return 1 - SSIM: Gaussian 11x11 of σ = 1.5, k = 0.01 / 0.03 (Wang et al., IEEE TIP 13, 600 (2004)).

    The data's range is taken as 1. Only windows that lie wholly inside the tile count.
    """
    window = _gaussian_window().to(a.device)
    a, b = a.float(), b.float()
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    var_a, var_b = _blur(a * a, window) - mean_a**2, _blur(b * b, window) - mean_b**2
    covariance = _blur(a * b, window) - mean_a * mean_b
    ssim = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ssim = ssim / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return weighted_mean(1.0 - ssim, None if weight is None else weight[..., 5:-5, 5:-5])


def consistency(raw_cos: Tensor, raw_sin: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return mean((c² + s² - 1)²) of the values BEFORE projection (eq. 10); after it this is always 0."""
    return weighted_mean(torch.square(raw_cos**2 + raw_sin**2 - 1.0), weight)


def spread_loss(
    concentration: Tensor, prediction: Prediction, cos: Tensor, sin: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return the mean negative log likelihood of the phase errors, given how sure of them the network is.

    The phases are taken as they are: they learn by `phase_loss`, and are not pulled by what is unsure.
    """
    miss = 1.0 - (prediction.cos * cos + prediction.sin * sin)
    return weighted_mean(von_mises_nll(concentration, miss.detach()), weight)


def amplitude_loss(a: Tensor, b: Tensor, weight: Tensor | None, k: LossWeights) -> Tensor:
    """Return L_A = the pixel term + gradient·G + ssim·(1 - SSIM) of the amplitude."""
    return (
        pixel_error(a, b, weight, k)
        + k.gradient * gradient_error(a, b, weight)
        + k.ssim * structural_dissimilarity(a, b, weight)
    )


def phase_loss(
    prediction: Prediction, cos: Tensor, sin: Tensor, weight: Tensor | None, k: LossWeights
) -> Tensor:
    """Return L_φ: the same terms of cos and of sin, SSIM's averaged, and the circular one."""
    p = prediction
    return (
        pixel_error(p.cos, cos, weight, k)
        + pixel_error(p.sin, sin, weight, k)
        + k.circular * circular_error(p.cos, p.sin, cos, sin, weight)
        + k.gradient * (gradient_error(p.cos, cos, weight) + gradient_error(p.sin, sin, weight))
        + k.ssim
        * (structural_dissimilarity(p.cos, cos, weight) + structural_dissimilarity(p.sin, sin, weight))
        / 2
    )


def composite_loss(
    prediction: Prediction,
    amplitude: Tensor,
    cos: Tensor,
    sin: Tensor,
    weight: Tensor | None = None,
    weights: LossWeights | None = None,
) -> dict[str, Tensor]:
    """Return the terms and their weighted sum under "loss".

    Args:
        prediction: of the network.
        amplitude: of the true tile, (N, 1, h, w), h and w at least 11.
        cos: of its phase, the same shape.
        sin: of its phase, the same shape.
        weight: (1, 1, h, w) of mean 1, or None.
        weights: of the terms; None: the paper's.
    """
    k = weights or LossWeights()
    terms = {
        "amplitude": amplitude_loss(prediction.amplitude, amplitude, weight, k),
        "phase": phase_loss(prediction, cos, sin, weight, k),
        "consistency": consistency(prediction.raw_cos, prediction.raw_sin, weight),
    }
    total = terms["amplitude"] + k.phase * terms["phase"] + k.consistency * terms["consistency"]
    if prediction.concentration is not None:
        terms["spread"] = spread_loss(prediction.concentration, prediction, cos, sin, weight)
        total = total + k.spread * terms["spread"]
    return {"loss": total, **terms}
