"""PPN: patches for what is near, attention in polar coordinates for what is far apart in the pattern.

Yue et al., "A Physics-Inspired Deep Learning Framework with Polar Coordinate Attention for Ptychographic
Imaging", IEEE Trans. Comput. Imaging (2025), arXiv 2412.06806; layers and schedule from johncolddd/PPN.

Where this departs from the released code:

- There the polar branch begins with a layer norm over three equal copies of each pixel, which is zero
  whatever the pixel: the branch, attention and all, is a constant. Here the first norm is over the whole
  frame, with as many parameters, so that the branch sees the pattern, as the paper means it to.
- The paper's centre of the polar coordinates is learnable; the code computes them once, from a centre that
  stays at (H/2, W/2). Here it is fixed there, where the zero frequency is.
- The code is for 32×32 alone. Here the bottleneck is (H/8, W/8), which at 32×32 is the code's 4×4; the dense
  layer into it grows as the square of the pixels, and so does the attention.
- The code divides by the largest intensity of the training set. Here the network remembers the largest
  that it has met in training, which is the same from the second epoch on.
- The code halves the rate when the validation loss stalls for two epochs, down to 1e-4; here it is constant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import NetworkConfig
from training.baselines.keras_defaults import batch_norm, glorot
from training.baselines.pixel_loss import pixel_loss
from training.method import Method, Recipe, ScalarPrediction
from training.simulation.factory import Sample

PATCH_PX = 8
COPIES = 3  # of the pattern: the code's networks take colour images
WIDTH = 32  # channels of a token
HEADS = 2
DEEP = 128  # channels of the bottleneck
LAYER_NORM_EPSILON = 1e-6


class PPN(nn.Module):
    """Counts over the largest of training → amplitude in [0, 1] and phase in a range, both by sigmoid."""

    peak_counts: Tensor

    def __init__(self, config: NetworkConfig, phase_range_rad: tuple[float, float] = (0.0, 1.0)) -> None:
        """Build the network.

        Args:
            config: only the frame's shape matters.
            phase_range_rad: what the sigmoid's 0 and 1 stand for; the published labels are scaled to [0, 1].
        """
        super().__init__()
        self.phase_range_rad = phase_range_rad
        self.near = PatchBranch(config.frame_shape)
        self.far = PolarBranch(config.frame_shape)
        self.fuse = nn.Sequential(nn.Conv2d(2 * DEEP, DEEP, 1), nn.ReLU())
        self.amplitude = _decoder()
        self.phase = _decoder()
        self.register_buffer("peak_counts", torch.ones(()))  # of a set that is already scaled to [0, 1]
        glorot(self)

    def forward(self, counts: Tensor) -> ScalarPrediction:
        """(N, 1, H, W) counts → planes (N, 1, H, W)."""
        counts = counts.float()
        if self.training:
            self.peak_counts = torch.maximum(self.peak_counts, counts.detach().amax())
        pattern = (counts / self.peak_counts).expand(-1, COPIES, -1, -1)
        fused = self.fuse(torch.cat([self.near(pattern), self.far(pattern)], dim=1))
        low, high = self.phase_range_rad
        phase_rad = low + (high - low) * torch.sigmoid(self.phase(fused).float())
        return ScalarPrediction(torch.sigmoid(self.amplitude(fused).float()), phase_rad)


class PatchBranch(nn.Module):
    """Two transformer layers on patches, and a dense layer from all of them to the bottleneck."""

    def __init__(self, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.grid = (frame_shape[0] // PATCH_PX, frame_shape[1] // PATCH_PX)
        patches = math.prod(self.grid)
        self.embed = nn.Linear(COPIES * PATCH_PX**2, WIDTH)
        self.position = nn.Parameter(torch.empty(patches, WIDTH).uniform_(-0.05, 0.05))
        self.layers = nn.Sequential(PatchLayer(), PatchLayer(), _layer_norm())
        self.spread = nn.Linear(patches * WIDTH, patches * DEEP)

    def forward(self, pattern: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 128, H/8, W/8)."""
        patches = functional.unfold(pattern, PATCH_PX, stride=PATCH_PX).transpose(1, 2)
        tokens = self.layers(self.embed(patches) + self.position)
        return functional.relu(self.spread(tokens.flatten(1))).reshape(-1, DEEP, *self.grid)


class PatchLayer(nn.Module):
    """Attention between patches, then one dense layer (N, T, 32) → (N, T, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = _layer_norm()
        self.split = nn.Linear(WIDTH, 3 * HEADS * WIDTH)  # each head is as wide as a token
        self.merge = nn.Linear(HEADS * WIDTH, WIDTH)
        self.norm_after = _layer_norm()
        self.dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend, then transform each token by itself."""
        tokens = self.norm(tokens)
        attended = functional.scaled_dot_product_attention(*_heads(self.split(tokens)))
        tokens = self.norm_after(self.merge(attended.transpose(1, 2).flatten(2)) + tokens)
        return functional.relu(self.dense(tokens)) + tokens


class PolarBranch(nn.Module):
    """Two layers of polar attention between all pixels, averaged down to the bottleneck."""

    affinity: Tensor

    def __init__(self, frame_shape: tuple[int, int]) -> None:
        super().__init__()
        self.frame_shape = frame_shape
        self.register_buffer("affinity", polar_affinity(frame_shape), persistent=False)
        self.norm = nn.GroupNorm(1, COPIES, eps=LAYER_NORM_EPSILON)
        self.first = PolarLayer(COPIES)
        self.norm_between = _layer_norm()
        self.second = PolarLayer(WIDTH)
        self.widen = nn.Linear(WIDTH, DEEP)

    def forward(self, pattern: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 128, H/8, W/8)."""
        pixels = self.norm(pattern).flatten(2).transpose(1, 2)
        pixels = self.norm_between(self.first(pixels, self.affinity))
        pixels = functional.relu(self.widen(self.second(pixels, self.affinity)))
        planes = pixels.transpose(1, 2).reshape(-1, DEEP, *self.frame_shape)
        return functional.avg_pool2d(planes, PATCH_PX)


class PolarLayer(nn.Module):
    """Attention between pixels whose logits are weighted by where the two lie, then one dense layer."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.split = nn.Linear(inputs, 3 * WIDTH)
        self.merge = nn.Linear(WIDTH, WIDTH)
        self.norm = _layer_norm()
        self.dense = nn.Linear(WIDTH, WIDTH)

    def forward(self, pixels: Tensor, affinity: Tensor) -> Tensor:
        """(N, H·W, inputs) pixels and (H·W, H·W) affinity → (N, H·W, 32)."""
        query, key, value = _heads(self.split(pixels))
        logits = torch.matmul(query, key.transpose(-2, -1)) * (affinity / math.sqrt(query.shape[-1]))
        attended = torch.matmul(torch.softmax(logits, dim=-1), value)
        merged = self.merge(attended.transpose(1, 2).flatten(2))
        return functional.relu(self.dense(self.norm(merged)))


def polar_affinity(frame_shape: tuple[int, int]) -> Tensor:
    """Return cos(θ_i − θ_j) / (1 + ln r_j / ln r_max) for all pairs of pixels i, j: (H·W, H·W) float32.

    r and θ are polar coordinates around the zero frequency, r in pixels and 1e-6 larger. At the zero
    frequency itself, where θ is 0, the published formula gives a small negative weight.
    """
    height, width = frame_shape
    y, x = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    r = torch.hypot(y, x).flatten() + 1e-6
    theta = torch.atan2(y, x).flatten()
    radial = 1.0 / (1.0 + torch.log(r) / torch.log(r.max()))
    return torch.cos(theta[:, None] - theta) * radial


def loss(prediction: ScalarPrediction, truth: Sample) -> dict[str, Tensor]:
    """Return the mean squared error of the amplitude plus that of the phase."""
    return pixel_loss(functional.mse_loss, prediction, truth)


def _heads(split: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Part (N, T, 3·heads·d) into queries, keys and values, each (N, heads, T, d)."""
    query, key, value = split.reshape(*split.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def _layer_norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, eps=LAYER_NORM_EPSILON)


def _decoder() -> nn.Sequential:
    """Features (N, 128, H/8, W/8) → one unbounded plane (N, 1, H, W)."""
    return nn.Sequential(
        *_doubling(DEEP, 128), *_doubling(128, 64), *_doubling(64, 32), nn.Conv2d(32, 1, 3, padding=1)
    )


def _doubling(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return up, nn.ReLU(), batch_norm(outputs)


METHOD = Method(PPN, loss, Recipe(batch=32, epochs=30, low=1e-3, high=1e-3))
