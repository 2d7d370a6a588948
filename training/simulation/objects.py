"""Random objects, from several families, that no sample stands behind.

Each family draws a map of thickness in [0, 1]; `random_object` makes a complex transmission of it.
Radial spokes are not shown in training: the measured Siemens star is what the shipped model is judged on.
They are a family of their own (`HELD_OUT`), for figures on objects of a kind that was never learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Map = NDArray[np.float32]
SUPERSAMPLING = 2  # polygons are drawn finer and reduced, so that edges are not jagged


_CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def _canvas(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("F", (size * SUPERSAMPLING, size * SUPERSAMPLING), 0.0)
    return image, ImageDraw.Draw(image)


def _reduce(image: Image.Image) -> Map:
    return np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32)


def bars(rng: np.random.Generator, size: int) -> Map:
    """Draw groups of parallel bars of random width, length and direction, as on test charts."""
    image, draw = _canvas(size)
    span = size * SUPERSAMPLING
    for _ in range(int(rng.integers(6, 24))):
        width, length = rng.uniform(2, 40) * SUPERSAMPLING, rng.uniform(20, 160) * SUPERSAMPLING
        angle, level = rng.uniform(0, np.pi), float(rng.choice([0.0, 1.0, rng.uniform()]))
        centre, step = rng.uniform(0, span, 2), np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-step[1], step[0]])
        for k in range(int(rng.integers(1, 6))):
            middle = centre + 2 * width * k * across
            corners = [middle + a * step * length / 2 + b * across * width / 2 for a, b in _CORNERS]
            draw.polygon([(float(x), float(y)) for x, y in corners], fill=level)
    return _reduce(image)


def polygons(rng: np.random.Generator, size: int) -> Map:
    """Draw overlapping random polygons of random thickness: wedges, corners, straight edges."""
    image, draw = _canvas(size)
    span = size * SUPERSAMPLING
    for _ in range(int(rng.integers(8, 50))):
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        radii = rng.uniform(0.3, 1.0, len(angles)) * rng.uniform(6, 90) * SUPERSAMPLING
        x, y = rng.uniform(0, span, 2)
        corners = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=-1)
        draw.polygon(
            [(px, py) for px, py in corners.tolist()], fill=float(rng.choice([0.0, 1.0, rng.uniform()]))
        )
    return _reduce(image)


def discs(rng: np.random.Generator, size: int) -> Map:
    """Draw discs and ellipses, some hollow."""
    image, draw = _canvas(size)
    span = size * SUPERSAMPLING
    for _ in range(int(rng.integers(10, 70))):
        x, y = rng.uniform(0, span, 2)
        rx, ry = rng.uniform(2, 40, 2) * SUPERSAMPLING
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=float(rng.uniform(0.2, 1.0)))
        if rng.uniform() < 0.3:
            draw.ellipse((x - rx / 2, y - ry / 2, x + rx / 2, y + ry / 2), fill=0.0)
    return _reduce(image)


def random_field(rng: np.random.Generator, size: int) -> Map:
    """Draw a Gaussian random field with a power-law spectrum, from clouds to grain."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    envelope = (frequency + 1 / rng.uniform(20, 200)) ** -rng.uniform(1.2, 3.0)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * envelope
    return _normalised(np.fft.irfft2(spectrum, s=(size, size)))


def patches(rng: np.random.Generator, size: int) -> Map:
    """Cut a random field at one or two levels: islands with curved edges of every size."""
    field = random_field(rng, size)
    levels = np.quantile(field, np.sort(rng.uniform(0.15, 0.85, int(rng.integers(1, 3)))))
    return (np.digitize(field, levels) / len(levels)).astype(np.float32)


def cells(rng: np.random.Generator, size: int) -> Map:
    """Draw Voronoi cells of random thickness, with walls in half of the cases."""
    seeds = rng.uniform(0, size, (int(rng.integers(12, 120)), 2)).astype(np.float32)
    label = _nearest(seeds, size)
    levels = rng.uniform(0, 1, len(seeds)).astype(np.float32)[label]
    if rng.uniform() < 0.5:
        walls = ndimage.morphological_gradient(label, size=int(rng.integers(2, 6))) > 0
        levels[walls] = float(rng.choice([0.0, 1.0]))
    return levels


def spokes(rng: np.random.Generator, size: int) -> Map:
    """Draw radial spokes about one to four hubs at random places, each cut to a ring."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    thickness = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(1, 5))):
        hub_y, hub_x = rng.uniform(0, size, 2)
        angle, radius = np.arctan2(y - hub_y, x - hub_x), np.hypot(y - hub_y, x - hub_x)
        turns = angle / (2 * np.pi) * int(rng.integers(8, 48)) + rng.uniform()
        inner, outer = rng.uniform(0, 0.05) * size, rng.uniform(0.15, 0.8) * size
        lit = (turns % 1 < rng.uniform(0.3, 0.7)) & (radius > inner) & (radius < outer)
        thickness[lit] = rng.uniform(0.3, 1.0)
    return thickness


def _nearest(seeds: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Return which of the seeds (n, 2) lies nearest to each pixel, (size, size)."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    label = np.zeros((size, size), dtype=np.int64)
    nearest = np.full((size, size), np.inf, dtype=np.float32)
    for i, (seed_y, seed_x) in enumerate(seeds):
        distance = (y - seed_y) ** 2 + (x - seed_x) ** 2
        closer = distance < nearest
        nearest[closer], label[closer] = distance[closer], i
    return label


def _normalised(field: NDArray[np.float64]) -> Map:
    low, high = np.quantile(field, [0.002, 0.998])
    normalised: Map = np.clip((field - low) / (high - low), 0, 1).astype(np.float32)
    return normalised


Family = Callable[[np.random.Generator, int], Map]
FAMILIES: dict[str, Family] = {
    "bars": bars,
    "polygons": polygons,
    "discs": discs,
    "fields": random_field,
    "patches": patches,
    "cells": cells,
}
HELD_OUT: dict[str, Family] = {"spokes": spokes}  # not shown in training
EVERY_FAMILY = FAMILIES | HELD_OUT


@dataclass(frozen=True, slots=True)
class ObjectRecipe:
    """What the random objects look like.

    Attributes:
        families: names in `EVERY_FAMILY`, drawn with equal chance; those of training by default.
        phase_span_rad: least and greatest span of the phase over an object.
        absorption: greatest |ln amplitude| over an object.
        amplitude_max: amplitudes are cut here.
        blur_px: least and greatest Gaussian σ of the edges.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    phase_span_rad: tuple[float, float] = (0.1, 2.4)
    absorption: float = 0.5
    amplitude_max: float = 1.45
    blur_px: tuple[float, float] = (0.4, 1.3)

    def __post_init__(self) -> None:
        """Raise ValueError for a family that nobody knows."""
        unknown = set(self.families) - set(EVERY_FAMILY)
        if unknown or not self.families:
            raise ValueError(f"families {self.families}: take some of {', '.join(EVERY_FAMILY)}")


def random_object(rng: np.random.Generator, size: int, recipe: ObjectRecipe) -> NDArray[np.complex64]:
    """Draw one complex transmission (size, size).

    In six of ten objects absorption follows the phase's map, in the others a map of its own; half carry a
    slow background besides.
    """
    thickness = _soft_map(rng, size, recipe)
    absorbing = thickness if rng.uniform() < 0.6 else _soft_map(rng, size, recipe)
    phase = rng.choice([-1, 1]) * rng.uniform(*recipe.phase_span_rad) * thickness
    if rng.uniform() < 0.5:
        phase = phase + rng.uniform(0, 0.8) * ndimage.gaussian_filter(random_field(rng, size), 12.0)
    log_amplitude = rng.uniform(-0.15, 0.15) - rng.uniform(-0.3, 1.0) * recipe.absorption * (absorbing - 0.5)
    amplitude = np.minimum(np.exp(log_amplitude), recipe.amplitude_max)
    transmission: NDArray[np.complex64] = (amplitude * np.exp(1j * phase)).astype(np.complex64)
    return transmission


def _soft_map(rng: np.random.Generator, size: int, recipe: ObjectRecipe) -> Map:
    family = EVERY_FAMILY[str(rng.choice(recipe.families))]
    soft: Map = ndimage.gaussian_filter(family(rng, size), rng.uniform(*recipe.blur_px)).astype(np.float32)
    return soft
