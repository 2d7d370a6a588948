"""How likely the measured counts are, if the object were as predicted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BACKGROUND_COUNTS = 0.01  # a pixel: half the greatest of the simulated camera's; keeps the logarithm finite


class Diffraction(nn.Module):
    """Tiles → the patterns that the detector should see, I = Σ_m |F(P_m·O)|², unitary.

    Thibault & Menzel, Nature 494, 68 (2013). Beyond the tile, where little light falls, the object is taken
    as empty, as `model.optics.tile_residual` does, or as another exposure makes that look. So the absolute
    phase is free only where the tile fills the frame; a smaller one is weakly bound to the light that passes
    it by.
    """

    probe: Tensor  # (M, H, W) complex64

    def __init__(self, probe: NDArray[np.complex64], tile_shape: tuple[int, int]) -> None:
        """Prepare for one probe.

        Args:
            probe: (M, H, W) complex modes, square-root photons a pixel.
            tile_shape: (h, w) of the tiles, centred on the probe.
        """
        super().__init__()
        self.register_buffer("probe", torch.as_tensor(probe), persistent=False)
        self.margins = _margins((probe.shape[1], probe.shape[2]), tile_shape)

    def forward(self, tiles: Tensor, outside: Tensor | float = 1.0) -> Tensor:
        """Propagate tiles.

        Args:
            tiles: (N, 1, h, w) complex.
            outside: (N, 1, 1, 1) real, or a number: the transmission beyond the tile.

        Returns:
            (N, 1, H, W) expected photons a pixel, zero frequency at the centre.
        """
        transmission = outside + functional.pad(tiles - outside, self.margins)
        waves = torch.view_as_real(torch.fft.fft2(self.probe * transmission, norm="ortho"))
        pattern = waves.square().sum(dim=(1, -1)).unsqueeze(1)
        centred: Tensor = torch.fft.fftshift(pattern, dim=(-2, -1))
        return centred


def _margins(frame_shape: tuple[int, int], tile_shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return how far the frame reaches beyond the tile: left, right, top, bottom."""
    (top, left) = (n // 2 - m // 2 for n, m in zip(frame_shape, tile_shape, strict=True))
    return left, frame_shape[1] - tile_shape[1] - left, top, frame_shape[0] - tile_shape[0] - top


def poisson_deviance(
    expected: Tensor, counts: Tensor, valid: Tensor, background_counts: float = BACKGROUND_COUNTS
) -> Tensor:
    """Return 2·Σ(Î − I + I·ln(I/Î)) of each frame over its number of valid pixels, (N,).

    Twice the log-likelihood ratio between Î and the counts themselves (McCullagh & Nelder, Generalized
    Linear Models, 2nd ed. (1989), sec. 2.3.1). Counting noise alone gives about 1 where a pixel holds more
    than a few photons, and less where most pixels are dark.

    Args:
        expected: (N, 1, H, W) photons a pixel.
        counts: (N, 1, H, W) measured photons a pixel; what lies below 0 counts as 0.
        valid: (N, 1, H, W) bool, pixels that count.
        background_counts: added to every expected pixel.
    """
    mean, counts = expected + background_counts, counts.clamp_min(0.0)
    ratio = torch.where(counts > 0, counts, mean) / mean  # I·ln I is 0 where I is
    deviance = 2 * (mean - counts + counts * torch.log(ratio))
    kept = torch.where(valid, deviance, 0.0).sum(dim=(1, 2, 3))
    return kept / valid.sum(dim=(1, 2, 3)).clamp_min(1)


def frame_residual(expected: Tensor, counts: Tensor, valid: Tensor) -> Tensor:
    """Return √(Σ(√I − √Î)² / ΣI) of each frame, (N,), as `model.optics.tile_residual` does; 0 is perfect.

    Args:
        expected: (N, 1, H, W) photons a pixel.
        counts: (N, 1, H, W) measured photons a pixel; what lies below 0 counts as 0.
        valid: (N, 1, H, W) bool, pixels that count.
    """
    counts = torch.where(valid, counts.clamp_min(0.0), 0.0)
    difference = torch.square(torch.sqrt(counts) - torch.sqrt(torch.where(valid, expected, 0.0)))
    return torch.sqrt(difference.sum(dim=(1, 2, 3)) / counts.sum(dim=(1, 2, 3)).clamp_min(1.0))
