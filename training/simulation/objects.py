"""Families of random objects that no sample stands behind.

Each draws a map of thickness in [0, 1]; `training.simulation.transmission` makes complex objects of it.
Radial spokes and zone plates are not shown in training (`HELD_OUT`). The measured Siemens star, whose spokes
these are, is what the shipped model is judged on; a zone plate is the other usual test object of X-ray
microscopes, and its rings are like nothing in training, where lines that repeat are straight. Figures on
both tell what a network makes of a kind of object that it never learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from training.simulation.textures import random_view

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
    seeds = rng.integers(0, size, (int(rng.integers(12, 120)), 2))
    label = _nearest(seeds, size)
    levels = rng.uniform(0, 1, len(seeds)).astype(np.float32)[label]
    if rng.uniform() < 0.5:
        walls = ndimage.morphological_gradient(label, size=int(rng.integers(2, 6))) > 0
        levels[walls] = float(rng.choice([0.0, 1.0]))
    return levels


def textures(rng: np.random.Generator, size: int) -> Map:
    """Take a view of a photograph or micrograph, its contrast stretched: detail at every scale at once."""
    return _normalised(random_view(rng, size), least_range=0.1)  # an empty sky stays nearly empty


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


def zones(rng: np.random.Generator, size: int) -> Map:
    """Draw one to three Fresnel zone plates: zone n ends at √(n·a), so that rings thin out to 2…8 px."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    thickness = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        centre_y, centre_x = rng.uniform(0, size, 2)
        radius, outermost = rng.uniform(0.2, 0.7) * size, rng.uniform(2, 8)
        r2 = (y - centre_y) ** 2 + (x - centre_x) ** 2
        zone = np.floor(r2 / (2 * radius * outermost) + rng.uniform())
        thickness[(zone % 2 == 0) & (r2 < radius**2)] = rng.uniform(0.3, 1.0)
    return thickness


def _nearest(seeds: NDArray[np.int64], size: int) -> NDArray[np.int32]:
    """Return which of the seeds (n, 2) lies nearest to each pixel, (size, size)."""
    number = np.zeros((size, size), dtype=np.int32)
    elsewhere = np.ones((size, size), dtype=bool)
    number[tuple(seeds.T)], elsewhere[tuple(seeds.T)] = np.arange(len(seeds)), False
    y, x = ndimage.distance_transform_edt(elsewhere, return_distances=False, return_indices=True)
    nearest: NDArray[np.int32] = number[y, x]
    return nearest


def _normalised(field: NDArray[np.floating[Any]], least_range: float = 0.0) -> Map:
    """Stretch a field to [0, 1]; one whose values range over less than `least_range` is stretched less."""
    low, high = np.quantile(field, [0.002, 0.998])
    normalised: Map = np.clip((field - low) / max(high - low, least_range), 0, 1).astype(np.float32)
    return normalised


Family = Callable[[np.random.Generator, int], Map]
FAMILIES: dict[str, Family] = {
    "bars": bars,
    "polygons": polygons,
    "discs": discs,
    "fields": random_field,
    "patches": patches,
    "cells": cells,
    "textures": textures,
}
HELD_OUT: dict[str, Family] = {"spokes": spokes, "zones": zones}  # not shown in training
EVERY_FAMILY = FAMILIES | HELD_OUT
