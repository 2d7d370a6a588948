"""Simulated frames: measured probe × random objects × the camera's noise, made on the fly."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.optics import centre_crop, intensity
from training.simulation.camera import VARIED, CameraRecipe, expose, photograph
from training.simulation.pool import NumberedObjects, ObjectPool, draw_places
from training.simulation.transmission import ObjectRecipe


@dataclass(frozen=True, slots=True)
class SimulationRecipe:
    """Everything random in the training data.

    Attributes:
        objects: what is illuminated.
        camera: how it is recorded.
        object_size: edge of an object, pixels.
        tiles_per_object: frames taken of an object, on average, before it makes room for the next.
        pool_objects: from how many objects the frames of a batch are taken.
    """

    objects: ObjectRecipe = field(default_factory=ObjectRecipe)
    camera: CameraRecipe = VARIED
    object_size: int = 320
    tiles_per_object: int = 32
    pool_objects: int = 32

    def __post_init__(self) -> None:
        """Raise ValueError where no frame can be taken."""
        if self.tiles_per_object < 1 or self.pool_objects < 1:
            raise ValueError("a frame is taken of an object: at least one of each is needed")


class Sample(NamedTuple):
    """A batch of simulated frames with their true tiles.

    Attributes:
        counts: (N, 1, H, W) float32 photons a pixel.
        amplitude: (N, 1, h, w) float32, as strong as the exposure makes the object look under the probe.
        cos, sin: (N, 1, h, w) float32.
    """

    counts: Tensor
    amplitude: Tensor
    cos: Tensor
    sin: Tensor


def gauge_phase(tiles: Tensor, light: Tensor) -> Tensor:
    """Return arg Σ|P|²·O of each tile, (N, 1, 1): the one angle that no diffraction pattern holds.

    O and O·exp(iα) give the same pattern, so tiles are turned by this before they are learned.

    Args:
        tiles: (N, H, W) complex transmission.
        light: (H, W) intensity of the probe.
    """
    total = torch.mv(tiles.flatten(1), light.flatten().to(tiles.dtype))
    return torch.angle(total)[:, None, None]


class FrameFactory(Iterable[Sample]):
    """A seeded stream of batches; batch k depends on the seed and k alone.

    So a run can go on where it stopped, and any number of processes that draw objects gives the same. On an
    accelerator the noise is another than on a CPU; objects and places are the same.

    Batch k is cut from `pool_objects` objects, of which the stream replaces the oldest few after each batch:
    drawing an object costs more than photographing twenty tiles of it.
    """

    def __init__(
        self,
        probe: NDArray[np.complex64],
        tile_shape: tuple[int, int],
        batch: int,
        seed: int,
        recipe: SimulationRecipe | None = None,
        batches: range = range(sys.maxsize),
        *,
        workers: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Prepare; nothing is drawn before the first batch is asked for.

        Args:
            probe: (M, H, W) complex modes, square-root photons a pixel.
            tile_shape: (h, w) of the true tiles, centred on the probe.
            batch: frames a sample.
            seed: of everything random.
            recipe: what is random.
            batches: numbers of the batches to give, rising; from 0 without end by default.
            workers: processes that draw objects; 0: the one that iterates does.
            device: where tiles are cut and photographed, and where batches lie.

        Raises:
            ValueError: the objects are smaller than the probe.
        """
        self.device = torch.device(device)
        self.probe = torch.as_tensor(probe, device=self.device)
        self.light = self.probe.abs().square().sum(dim=0)
        self.tile_shape, self.batch, self.seed, self.batches = tile_shape, batch, seed, batches
        self.recipe, self.workers = recipe or SimulationRecipe(), workers
        if self.recipe.object_size < max(probe.shape[1:]):
            raise ValueError(
                f"objects of {self.recipe.object_size} pixels are smaller than the probe {probe.shape[1:]}"
            )

    def __iter__(self) -> Iterator[Sample]:
        """Give the batches in order."""
        return self._give(self.batches, self.workers)

    def make(self, k: int) -> Sample:
        """Return batch k; all objects of its pool are drawn for it, so iterate for more than one."""
        return next(self._give(range(k, k + 1), workers=0))

    def objects_of(self, k: int) -> range:
        """Return the numbers of the objects that batch k is cut from."""
        first = k * math.ceil(self.batch / self.recipe.tiles_per_object)
        return range(first, first + self.recipe.pool_objects)

    def sample(self, tiles: Tensor, noise: torch.Generator) -> Sample:
        """Expose and photograph complex tiles (N, H, W) and turn them into their gauge."""
        tiles = expose(tiles, self.recipe.camera, noise)
        counts = photograph(self.probe, tiles, self.recipe.camera, noise)
        gauge = gauge_phase(tiles, self.light)
        top, left = (n // 2 - m // 2 for n, m in zip(tiles.shape[-2:], self.tile_shape, strict=True))
        seen = tiles[:, top : top + self.tile_shape[0], left : left + self.tile_shape[1]]
        amplitude = seen.abs()
        unit = seen * torch.exp(-1j * gauge) / amplitude.clamp_min(1e-6)
        planes = (counts, amplitude, unit.real.contiguous(), unit.imag.contiguous())
        return Sample(*(plane[:, None] for plane in planes))

    def _give(self, batches: range, workers: int) -> Iterator[Sample]:
        recipe = self.recipe
        numbers = range(self.objects_of(batches.start).start, sys.maxsize)
        row = NumberedObjects(recipe.objects, recipe.object_size, self.seed).drawn(numbers, workers)
        pool = ObjectPool(row, numbers.start, recipe.pool_objects, recipe.object_size, self.device)
        for k in batches:
            pool.advance(self.objects_of(k).stop)
            yield self._photographed(k, pool)

    def _photographed(self, k: int, pool: ObjectPool) -> Sample:
        rng = np.random.default_rng((self.seed, 1, k))
        shape = (self.probe.shape[1], self.probe.shape[2])
        places = draw_places(rng, self.batch, self.objects_of(k), self.recipe.object_size, shape)
        noise = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return self.sample(pool.cut(places, shape), noise)


def probe_weight_map(
    probe: NDArray[np.complex64], tile_shape: tuple[int, int], floor: float = 0.03
) -> Tensor:
    """Return the loss's weight (1, 1, h, w) of mean 1: the probe's intensity over a small floor."""
    light = centre_crop(intensity(probe), tile_shape)
    weight = light / light.max() + floor
    return torch.tensor(weight / weight.mean(), dtype=torch.float32)[None, None]
