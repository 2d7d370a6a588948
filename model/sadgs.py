"""Saturation-aware dual-gain scaling (SADGS), a module of the network so that it travels in the ONNX file.

arXiv 2604.26664 (2026), eq. 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class SadgsConfig:
    """Parameters of the scaling.

    Attributes:
        percentile_counts: p, the `percentile`-th percentile of the training set's counts a pixel.
        percentile: which one; the paper takes 99.5.
        clip_level: S, the numeric clip after the gain. Not the detector's saturation.
        headroom: η, the share of S that p is scaled to by the first gain.
        gain_exponents: a_i; gain i is 2^(a_i - a_1) times the first.
    """

    percentile_counts: float
    percentile: float = 99.5
    clip_level: float = 4095.0
    headroom: float = 0.85
    gain_exponents: tuple[float, ...] = (0.001, 4.0)

    def __post_init__(self) -> None:
        """Raise ValueError for a percentile that gives no gain."""
        if not self.percentile_counts > 0:
            raise ValueError(
                f"percentile {self.percentile} of the counts is {self.percentile_counts}: is the beam on?"
            )

    @property
    def gains(self) -> tuple[float, ...]:
        """g_i = S·η·2^(a_i) / (2^(a_1)·p), counts to scaled units."""
        first = self.gain_exponents[0]
        base = self.clip_level * self.headroom / self.percentile_counts
        return tuple(base * 2.0 ** (exponent - first) for exponent in self.gain_exponents)


class Sadgs(nn.Module):
    """Counts → one clipped, scaled view a gain: x̃_i = clip(g_i·I, 0, S).

    The weak scattering at large angles shows in the high gain, the bright centre in the low one.
    """

    gains: Tensor

    def __init__(self, config: SadgsConfig) -> None:
        super().__init__()
        self.config = config
        gains = torch.tensor(config.gains, dtype=torch.float32)
        self.register_buffer("gains", gains.reshape(1, -1, 1, 1))

    def forward(self, counts: Tensor) -> Tensor:
        """Scale.

        Args:
            counts: (N, 1, H, W) float32 photons a pixel.

        Returns:
            (N, G, H, W), each view in [0, clip level].
        """
        return torch.clamp(self.gains * counts, 0.0, self.config.clip_level)


def percentile_counts(counts: Tensor, percentile: float, invalid: Tensor | None = None) -> float:
    """Return p over the pixels that count: gaps, dead and hot pixels do not.

    Args:
        counts: (N, H, W) photons a pixel of the training set.
        percentile: 0 … 100.
        invalid: bool, broadcastable to `counts`, True where a pixel must not count.

    Raises:
        ValueError: no pixel counts.
    """
    values = counts.float().flatten() if invalid is None else counts.float()[~invalid.expand_as(counts)]
    if not values.numel():
        raise ValueError("no pixel is left to take a percentile of: does the mask cover the whole detector?")
    rank = max(1, round(percentile / 100 * values.numel()))
    return float(torch.kthvalue(values, rank).values)
