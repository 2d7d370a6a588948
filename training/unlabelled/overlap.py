"""Do tiles agree where they overlap? Each knows the object but for one phase of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_FAINTEST = 1e-6  # amplitude below which a phase means nothing


def disagreement(here: Tensor, there: Tensor, offsets_px: Tensor, light: Tensor) -> Tensor:
    """Return the mean of (1 − cos Δφ) + ΔA² over the common pixels of pairs of tiles, 0 where they agree.

    A pixel counts by √(w₁·w₂), the light that either tile had there. The one relative phase of a pair that
    fits best is removed: with it Σ w·(1 − cos Δφ) = Σ w − |Σ w·u₁·u₂*|, u the tiles' phasors.

    Args:
        here: (N, 1, h, w) complex, the first tiles of N pairs.
        there: (N, 1, h, w) complex, the second ones.
        offsets_px: (N, 2) how far below and right of the first tile the second one lies, with fractions.
        light: (1, 1, h, w) real, the probe's intensity on a tile, in any unit.

    Returns:
        Of no dimension; 0 where no pair overlaps.
    """
    moved = _resampled(torch.cat([there.real, there.imag, light.expand_as(there.real)], dim=1), offsets_px)
    there = torch.complex(*moved[:, :2].unbind(1)).unsqueeze(1)
    weight = torch.sqrt(light * moved[:, 2:].clamp_min(0.0))
    coherence = (weight * _phasors(here) * _phasors(there).conj()).sum(dim=(1, 2, 3)).abs().sum()
    amplitude = (weight * torch.square(here.abs() - there.abs())).sum()
    whole = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight.sum() - coherence + amplitude) / whole


def _phasors(tiles: Tensor) -> Tensor:
    return tiles / tiles.abs().clamp_min(_FAINTEST)


def _resampled(planes: Tensor, offsets_px: Tensor) -> Tensor:
    """Return (N, C, h, w) as seen by a tile that lies `offsets_px` above and left, bicubic.

    It is 0 where the interpolation, which takes a pixel more to either side, would reach beyond the tile.
    """
    places = [
        torch.arange(n, device=planes.device) - offset[:, None]
        for n, offset in zip(planes.shape[-2:], offsets_px.to(planes.dtype).unbind(1), strict=True)
    ]
    y, x = (2 * place / (n - 1) - 1 for place, n in zip(places, planes.shape[-2:], strict=True))
    sides = (-1, *planes.shape[-2:])
    grid = torch.stack([x[:, None, :].expand(sides), y[:, :, None].expand(sides)], dim=-1)
    rows, columns = (
        (place >= 1) & (place <= n - 2) for place, n in zip(places, planes.shape[-2:], strict=True)
    )
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return inside * functional.grid_sample(planes, grid, mode="bicubic", align_corners=True)
