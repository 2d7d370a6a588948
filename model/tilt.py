"""A tile's tilt, matched to its own pattern by one Gauss-Newton step. It has no parameters to learn.

A phase ramp over the object moves its diffraction pattern sideways: e^{i·a·x} by a·N/2π pixels. So a
pattern tells the ramp of its tile well, and the network's is a little off
(docs/decisions/0017-tilts-in-the-graph.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.optics import Complex, centre_crop, intensity

_KNOWN_PX = 0.05  # standard deviation, of patterns' shifts by wrong ramps: what is presumed of them
_FARTHEST_PX = 0.25  # a greater shift is no small error of a tile: the step is not to be believed
_TELLING_SHARE = 0.625  # of the detector's edge: in its middle lies what tells a shift
_FAINTEST = 1e-3  # photons: added where a pixel may have none
_VARIANCE = 0.25  # of the root of a Poisson count, nearly whatever the count (Anscombe, 1948)


class TiltMatch(nn.Module):
    """One Gauss-Newton step for the two slopes of a phase ramp, on √I − √Î of the detector's middle.

    The ramp goes over all of the object, what lies beyond the tile too: held fast there, that light would
    hold back the tile. The far field of i·x·ψ is its derivative along the detector, F' = D·F, where D is
    real; so the step needs no far field but the one that tells the forward residual.
    """

    down: Tensor  # (C, H) D of the rows of the detector's middle
    right: Tensor  # (W, D) of its columns, transposed
    ramps: Tensor  # (2, h·w) pixels from the middle of the light, down and right

    def __init__(self, probe: NDArray[np.complex64], tile_shape: tuple[int, int]) -> None:
        """Build for a probe (M, H, W) and tiles (h, w)."""
        super().__init__()
        height, width = probe.shape[1:]
        self.middle = _middle(height), _middle(width)
        self.slope_of_pixel = 2 * np.pi / height, 2 * np.pi / width
        buffers = {
            "down": _derivative(height)[self.middle[0]],
            "right": _derivative(width)[self.middle[1]].T,
            "ramps": _ramps(centre_crop(probe, tile_shape)),
        }
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)

    def forward(self, waves: Tensor, error: Tensor, valid: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slopes that a tile lacks, and how they change its error.

        Args:
            waves: (N, M, 2, H, W) far fields of the modes, at the empty beam's strength.
            error: (N, 1, H, W) √I − √Î.
            valid: (N, 1, H, W) bool, pixels that count.
            strength: (N, 1, 1, 1) times the empty beam's counts that the frame holds.

        Returns:
            (N, 2) radians a pixel, down and right; (N,) what is to be added to Σ(√I − √Î)².
        """
        middle = (..., *self.middle)
        slopes = self._slopes(waves) * valid[middle]
        down, right = slopes.unbind(1)
        curvature = [(a * b).sum(dim=(1, 2)) for a, b in ((down, down), (down, right), (right, right))]
        gradient = (slopes * error[middle]).sum(dim=(2, 3))
        tilt = self._solved(curvature, gradient, strength.flatten())
        (a, b), (dd, dr, rr) = tilt.unbind(1), curvature
        change = a * a * dd + 2 * a * b * dr + b * b * rr - 2 * (tilt * gradient).sum(dim=1)
        return tilt, change

    def turned(self, tilt: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin (N, 1, h, w) of the phase with ramps (N, 2), radians a pixel, added to it.

        e^{iθ} as (1 + iθ/2) / (1 − iθ/2), which is as long: within 2·10⁻⁴ rad for θ = 0.13.
        """
        half = torch.matmul(tilt, self.ramps).reshape(cos.shape) / 2
        square = half * half
        c, s = (1 - square) / (1 + square), 2 * half / (1 + square)
        return c * cos - s * sin, s * cos + c * sin

    def _slopes(self, waves: Tensor) -> Tensor:
        """Return ∂√Î/∂(slope) in the middle of the detector, (N, 2, C, D)."""
        rows, columns = self.middle
        fields = waves[..., rows, columns]
        along = (
            torch.matmul(self.down, waves[..., columns]),
            torch.matmul(waves[..., rows, :], self.right),
        )
        root = torch.sqrt(torch.square(fields).sum(dim=(1, 2)) + _FAINTEST)
        return torch.stack([(fields * one).sum(dim=(1, 2)) / root for one in along], dim=1)

    def _solved(self, curvature: list[Tensor], gradient: Tensor, strength: Tensor) -> Tensor:
        """Return the step (N, 2), held back by what is presumed of slopes, and not beyond the farthest."""
        dd, dr, rr = curvature
        height, width = self.slope_of_pixel
        noise = _VARIANCE / strength
        dd, rr = dd + noise / (_KNOWN_PX * height) ** 2, rr + noise / (_KNOWN_PX * width) ** 2
        g, h = gradient.unbind(1)
        determinant = dd * rr - dr * dr
        a, b = (rr * g - dr * h) / determinant, (dd * h - dr * g) / determinant
        farthest = [_FARTHEST_PX * slope for slope in (height, width)]
        return torch.stack(
            [one.clamp(-most, most) for one, most in zip((a, b), farthest, strict=True)], dim=1
        )


def _middle(edge: int) -> slice:
    half = round(_TELLING_SHARE * edge / 2)
    return slice(edge // 2 - half, edge // 2 + half)


def _derivative(edge: int) -> NDArray[np.float64]:
    """Return D with F(i·x·ψ) = D·F(ψ) of a line of pixels, x counted from its middle: (edge, edge), real.

    F counts pixels from the first, as `model.optics.dft_matrix` does: hence the alternating sign. The first
    pixel itself, which has no counterpart, is left out.

    Args:
        edge: even.
    """
    x = np.arange(1, edge) - edge // 2
    lag = np.arange(edge)[:, None] - np.arange(edge)
    derivative: NDArray[np.float64] = (x * np.sin(2 * np.pi / edge * lag[..., None] * x)).sum(-1) / edge
    return derivative * (-1.0) ** lag


def _ramps(window: Complex) -> NDArray[np.float64]:
    """Return rows and columns (2, h·w), counted from the middle of the light (M, h, w): its mean stays."""
    light = intensity(window)
    grid = np.indices(light.shape).reshape(2, -1).astype(np.float64)
    ramps: NDArray[np.float64] = grid - (grid @ light.ravel() / light.sum())[:, None]
    return ramps
