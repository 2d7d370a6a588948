"""Scans of one random object: a raster of frames that overlap, and the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.optics import intensity
from model.scans import Reference
from training.progress import shown
from training.simulation.camera import CameraRecipe, expose, photograph
from training.simulation.objects import FAMILIES
from training.simulation.transmission import ObjectRecipe, random_object

BATCH = 16  # frames photographed at once
_ORDINARY = ObjectRecipe(weak_share=0.0, turns_share=0.0, opaque_share=0.0)  # the one object is no extreme
Counts = NDArray[np.uint16]
Corners = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScanRecipe:
    """What a simulated scan is like.

    Attributes:
        families: of the object.
        frames: how many.
        step_px: between neighbours of the raster, object pixels.
        jitter_px: each position is moved by up to this, along each axis.
        seed: of object, positions and noise.
        camera: how frames are recorded; by default all with one exposure by a detector without flaws.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    frames: int = 400
    step_px: float = 8.0
    jitter_px: float = 1.0
    seed: int = 1
    camera: CameraRecipe = field(default_factory=CameraRecipe)


def raster_corners(recipe: ScanRecipe, rng: np.random.Generator) -> Corners:
    """Return top-left corners (N, 2) y, x of the frames' tiles, row by row, from 0, whole pixels.

    Whole pixels, so that the tile under the probe is exactly a window of the object.
    """
    side = int(np.ceil(np.sqrt(recipe.frames)))
    raster = np.stack(np.divmod(np.arange(recipe.frames), side), axis=1) * recipe.step_px
    jitter = rng.uniform(-recipe.jitter_px, recipe.jitter_px, raster.shape)
    corners = np.rint(raster + jitter).astype(np.int64)
    from_zero: Corners = corners - corners.min(axis=0)
    return from_zero


def simulate_scan(
    probe: NDArray[np.complex64], object_pixel_m: float, recipe: ScanRecipe
) -> tuple[Counts, Reference]:
    """Scan one random object: counts (N, H, W), and the true object as the reference.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        object_pixel_m: pixel of the object.
        recipe: of the scan.
    """
    rng = np.random.default_rng((recipe.seed, 0))
    corners = raster_corners(recipe, rng)
    extent = corners.max(axis=0) + probe.shape[1:]
    square = random_object(rng, int(extent.max()), replace(_ORDINARY, families=recipe.families))
    whole = square[: extent[0], : extent[1]]
    counts = _record(probe, whole, corners, recipe, int(rng.integers(2**62)))
    coverage = _coverage(intensity(probe), whole.shape, corners)
    return counts, Reference(whole, probe, coverage, corners.astype(np.float64), object_pixel_m)


def _record(
    probe: NDArray[np.complex64],
    whole: NDArray[np.complex64],
    corners: Corners,
    recipe: ScanRecipe,
    noise_seed: int,
) -> Counts:
    """Photograph the object at each corner, with a progress bar on a terminal."""
    noise = torch.Generator().manual_seed(noise_seed)
    modes = torch.as_tensor(probe)
    height, width = probe.shape[1:]
    counts = np.empty((len(corners), height, width), np.uint16)
    with shown("Scanning", len(corners)) as advance:
        for start in range(0, len(corners), BATCH):
            some = corners[start : start + BATCH]
            tiles = torch.as_tensor(np.stack([whole[y : y + height, x : x + width] for y, x in some]))
            photographed = photograph(modes, expose(tiles, recipe.camera, noise), recipe.camera, noise)
            counts[start : start + BATCH] = photographed.numpy()
            advance(len(some))
    return counts


def _coverage(
    light: NDArray[np.floating[Any]], shape: tuple[int, ...], corners: Corners
) -> NDArray[np.float32]:
    """Return how much light fell on each pixel of the object."""
    coverage = np.zeros(shape, np.float32)
    height, width = light.shape
    for y, x in corners:
        coverage[y : y + height, x : x + width] += light
    return coverage
