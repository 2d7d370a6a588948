"""Simulated frames: measured probe × random objects × the camera's noise, made on the fly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from model.optics import centre_crop, intensity
from training.simulation.objects import ObjectRecipe, random_object


@dataclass(frozen=True, slots=True)
class CameraRecipe:
    """How the beam and the camera differ from frame to frame.

    Attributes:
        flux_jitter: relative standard deviation of the incident flux.
        mode_jitter: relative standard deviation of each mode's amplitude.
        background_counts: greatest mean background a pixel.
        saturation: counts are cut here.
    """

    flux_jitter: float = 0.03
    mode_jitter: float = 0.05
    background_counts: float = 0.02
    saturation: float = 65534.0


@dataclass(frozen=True, slots=True)
class SimulationRecipe:
    """Everything random in the training data.

    Attributes:
        objects: what is illuminated.
        camera: how it is recorded.
        object_size: edge of an object, pixels.
        tiles_per_object: frames taken of an object before the next is drawn.
    """

    objects: ObjectRecipe = field(default_factory=ObjectRecipe)
    camera: CameraRecipe = field(default_factory=CameraRecipe)
    object_size: int = 320
    tiles_per_object: int = 16


class Sample(NamedTuple):
    """A batch of simulated frames with their true tiles.

    Attributes:
        counts: (N, 1, H, W) float32 photons a pixel.
        amplitude, cos, sin: (N, 1, h, w) float32.
    """

    counts: Tensor
    amplitude: Tensor
    cos: Tensor
    sin: Tensor


def photograph(probe: Tensor, tiles: Tensor, camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return noisy counts (N, H, W): Poisson of Σ_m |F(P_m·O)|² and a little background, cut at saturation.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel. Only |P·O| is measured: a probe k times
            stronger gives k² the counts, and the same counts as an object k times stronger.
        tiles: (N, H, W) complex transmission.
        camera: flux, background and saturation.
        noise: where all randomness comes from.
    """
    n, modes = len(tiles), len(probe)
    flux = torch.exp(camera.flux_jitter * torch.randn(n, 1, 1, 1, generator=noise))
    mixing = torch.exp(camera.mode_jitter * torch.randn(n, modes, 1, 1, generator=noise))
    waves = torch.view_as_real(torch.fft.fft2(probe * tiles[:, None], norm="ortho"))
    pattern = (waves.square().sum(dim=-1) * flux * mixing.square()).sum(dim=1)
    background = camera.background_counts * torch.rand(n, 1, 1, generator=noise)
    counts = torch.poisson(torch.fft.fftshift(pattern, dim=(-2, -1)) + background, generator=noise)
    return counts.clamp_max(camera.saturation)


def gauge_phase(tiles: Tensor, light: Tensor) -> Tensor:
    """Return arg Σ|P|²·O of each tile, (N, 1, 1): the one angle that no diffraction pattern holds.

    O and O·exp(iα) give the same pattern, so tiles are turned by this before they are learned.

    Args:
        tiles: (N, H, W) complex transmission.
        light: (H, W) intensity of the probe.
    """
    return torch.angle((tiles * light).sum(dim=(-2, -1), keepdim=True))


class FrameFactory(IterableDataset[Sample]):
    """A seeded stream of batches; batch k depends on the seed and k alone.

    So a run can go on where it stopped, and several workers give what one would.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        tile_shape: (h, w) of the true tiles, centred on the probe.
        batch: frames a sample.
        seed: of everything random.
        recipe: what is random.
        batches: range of batch numbers to give; from 0 without end by default.

    Raises:
        ValueError: the objects are smaller than the probe.
    """

    def __init__(
        self,
        probe: NDArray[np.complex64],
        tile_shape: tuple[int, int],
        batch: int,
        seed: int,
        recipe: SimulationRecipe | None = None,
        batches: range = range(sys.maxsize),
    ) -> None:
        self.probe = torch.as_tensor(probe)
        self.light = self.probe.abs().square().sum(dim=0)
        self.tile_shape, self.batch, self.seed, self.batches = tile_shape, batch, seed, batches
        self.recipe = recipe or SimulationRecipe()
        if self.recipe.object_size < max(probe.shape[1:]):
            raise ValueError(
                f"objects of {self.recipe.object_size} pixels are smaller than the probe {probe.shape[1:]}"
            )

    def __iter__(self) -> Iterator[Sample]:
        """Give the batches in order; of several workers each makes its share, and the loader interleaves."""
        worker = get_worker_info()
        share = slice(None) if worker is None else slice(worker.id, None, worker.num_workers)
        return map(self.make, self.batches[share])

    def make(self, k: int) -> Sample:
        """Return batch k."""
        rng = np.random.default_rng((self.seed, k))
        return self.sample(self._tiles(rng), torch.Generator().manual_seed(int(rng.integers(2**62))))

    def sample(self, tiles: Tensor, noise: torch.Generator) -> Sample:
        """Photograph complex tiles (N, H, W) and turn them into their gauge."""
        counts = photograph(self.probe, tiles, self.recipe.camera, noise)
        tiles = tiles * torch.exp(-1j * gauge_phase(tiles, self.light))
        top, left = (n // 2 - m // 2 for n, m in zip(tiles.shape[-2:], self.tile_shape, strict=True))
        tiles = tiles[:, None, top : top + self.tile_shape[0], left : left + self.tile_shape[1]]
        amplitude = tiles.abs()
        unit = tiles / amplitude.clamp_min(1e-6)
        return Sample(counts[:, None], amplitude, unit.real.contiguous(), unit.imag.contiguous())

    def _tiles(self, rng: np.random.Generator) -> Tensor:
        """Cut (batch, H, W) tiles at random places and in random orientations of new objects."""
        tiles: list[NDArray[np.complex64]] = []
        while len(tiles) < self.batch:
            whole = random_object(rng, self.recipe.object_size, self.recipe.objects)
            wanted = min(self.recipe.tiles_per_object, self.batch - len(tiles))
            tiles += [self._cut(rng, whole) for _ in range(wanted)]
        return torch.as_tensor(np.stack(tiles))

    def _cut(self, rng: np.random.Generator, whole: NDArray[np.complex64]) -> NDArray[np.complex64]:
        height, width = self.probe.shape[-2:]
        y, x = (int(rng.integers(0, len(whole) - side + 1)) for side in (height, width))
        turns = int(rng.integers(4)) * (1 if height == width else 2)  # a quarter turn needs a square
        return np.rot90(whole[y : y + height, x : x + width], turns)


def probe_weight_map(
    probe: NDArray[np.complex64], tile_shape: tuple[int, int], floor: float = 0.03
) -> Tensor:
    """Return the loss's weight (1, 1, h, w) of mean 1: the probe's intensity over a small floor."""
    light = centre_crop(intensity(probe), tile_shape)
    weight = light / light.max() + floor
    return torch.tensor(weight / weight.mean(), dtype=torch.float32)[None, None]
