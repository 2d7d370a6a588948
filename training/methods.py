"""Every method known by name: the paper's, what its Table V takes away, the baselines."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.losses import LossWeights, amplitude_loss, composite_loss, gradient_error, structural_dissimilarity
from model.network import NetworkConfig, PaperNetwork, Prediction
from training.baselines import dpi, ppn, ptychonn, ptynet
from training.method import Method, Recipe, ScalarPrediction
from training.simulation.factory import Sample

PAPER_RECIPE = Recipe(clip=1.0)
_SUMMED = LossWeights(circular=0.0, gradient=0.0, ssim=0.0, consistency=0.0)  # pixel terms only
_THREE_GAINS = (0.001, 2.0, 4.0)  # the paper does not say which; one between its two


class ScalarPhaseNetwork(PaperNetwork):
    """The paper's network without its representation: one decoder of π·tanh in place of cos and sin."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, planes=2)

    def forward(self, counts: Tensor) -> ScalarPrediction:  # type: ignore[override]  # what Table V replaces
        """(N, 1, H, W) counts → amplitude and a phase in [−π, π]."""
        amplitude, phase = torch.split(self.heads(counts).float(), 1, dim=1)
        return ScalarPrediction(
            self.config.amplitude_range * torch.sigmoid(amplitude), torch.pi * torch.tanh(phase)
        )


def circular_loss(weights: LossWeights, prediction: Prediction, truth: Sample) -> dict[str, Tensor]:
    """Return the composite loss (arXiv 2604.26664, eq. 6-11), every pixel of the tile alike."""
    return composite_loss(prediction, *truth[1:], weights=weights)


def euclidean_loss(prediction: ScalarPrediction, truth: Sample) -> dict[str, Tensor]:
    """Return the composite loss with the phase taken as a plain number: no circle, no consistency."""
    k, phase = LossWeights(), torch.atan2(truth.sin, truth.cos)
    if prediction.amplitude is None:
        raise ValueError("this loss is for networks that predict an amplitude too")
    terms = {
        "amplitude": amplitude_loss(prediction.amplitude, truth.amplitude, None, k),
        "phase": torch.square(prediction.phase_rad - phase).mean()
        + k.gradient * gradient_error(prediction.phase_rad, phase)
        + k.ssim * structural_dissimilarity(prediction.phase_rad, phase),
    }
    return {"loss": terms["amplitude"] + k.phase * terms["phase"], **terms}


def _without(weights: LossWeights | None = None, **parts: Any) -> Method:
    """Return the paper's method with parts of its network, or terms of its loss, changed."""
    return Method(partial(_paper, parts), partial(circular_loss, weights or LossWeights()), PAPER_RECIPE)


def _paper(parts: dict[str, Any], config: NetworkConfig) -> nn.Module:
    return PaperNetwork(replace(config, **parts))


def _with_gains(exponents: tuple[float, ...]) -> Method:
    def build(config: NetworkConfig) -> nn.Module:
        return PaperNetwork(replace(config, sadgs=replace(config.sadgs, gain_exponents=exponents)))

    return Method(build, partial(circular_loss, LossWeights()), PAPER_RECIPE)


ABLATIONS: dict[str, Method] = {
    "no-dual-gain": _with_gains((0.001,)),
    "no-skip": _without(skip=False),
    "no-output-normalisation": _without(projection=False),
    "no-fusion-layer": _without(fusion=False),
    "no-circular-representation": Method(ScalarPhaseNetwork, euclidean_loss, PAPER_RECIPE),
    "three-gains": _with_gains(_THREE_GAINS),
    "no-circular-loss": _without(LossWeights(circular=0.0)),
    "no-consistency": _without(LossWeights(consistency=0.0)),
    "no-ssim": _without(LossWeights(ssim=0.0)),
    "no-gradient": _without(LossWeights(gradient=0.0)),
    "mse-only": _without(_SUMMED),
    "mae-only": _without(replace(_SUMMED, pixel="absolute")),
}
BASELINES: dict[str, Method] = {
    "ptychonn": ptychonn.METHOD,
    "dpi": dpi.METHOD,
    "ptynet": ptynet.METHOD,
    "ppn": ppn.METHOD,
}
METHODS: dict[str, Method] = {"paper": _without(), **ABLATIONS, **BASELINES}
