"""Random objects in an endless numbered row, and tiles cut from the latest of them in torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.simulation.known import random_window, read_object
from training.simulation.transmission import ObjectRecipe, random_object

Numbers = NDArray[np.int64]


class NumberedObjects(Dataset[NDArray[np.complex64]]):
    """Object j of a row depends on the recipe, the seed and j alone.

    Raises:
        ScanFileError: there is no known object where the recipe says.
    """

    def __init__(self, recipe: ObjectRecipe, size: int, seed: int) -> None:
        self.recipe, self.size, self.seed = recipe, size, seed
        self.known = None if recipe.known is None else read_object(recipe.known)

    def __getitem__(self, j: int) -> NDArray[np.complex64]:
        """Draw object j, (size, size).

        Raises:
            ValueError: the known object is smaller.
        """
        rng = np.random.default_rng((self.seed, 0, j))
        if self.known is not None and rng.uniform() < self.recipe.known_share:
            return random_window(rng, self.known, self.size)
        return random_object(rng, self.size, self.recipe)

    def drawn(self, numbers: range, workers: int) -> Iterator[Tensor]:
        """Give objects in order, however many processes draw them; 0: this one does."""
        own = torch.Generator()  # else the loader would draw from the one that the weights come of
        loader = DataLoader(self, batch_size=None, sampler=numbers, num_workers=workers, generator=own)
        return iter(loader)


class Places(NamedTuple):
    """Where tiles are cut, each (N,).

    Attributes:
        objects: number of the object.
        corner_y, corner_x: top-left pixel in it.
        orientations: 0 … 7, the symmetries of the square: bit 0 transposes, bits 1 and 2 flip rows and
            columns.
    """

    objects: Numbers
    corner_y: Numbers
    corner_x: Numbers
    orientations: Numbers


def draw_places(
    rng: np.random.Generator, tiles: int, objects: range, size: int, shape: tuple[int, int]
) -> Places:
    """Draw where `tiles` tiles of a shape (H, W) are cut from some of the numbered objects of one size."""
    orientations = rng.integers(0, 8, tiles)
    height, width = shape
    transposed = orientations & 1 == 1
    rows, columns = np.where(transposed, width, height), np.where(transposed, height, width)
    return Places(
        objects=rng.integers(objects.start, objects.stop, tiles),
        corner_y=rng.integers(0, size - rows + 1),
        corner_x=rng.integers(0, size - columns + 1),
        orientations=orientations,
    )


class ObjectPool:
    """The latest objects of a row, on the device that cuts tiles of them."""

    def __init__(
        self, objects: Iterator[Tensor], first: int, capacity: int, size: int, device: torch.device
    ) -> None:
        """Begin empty.

        Args:
            objects: of the row, (size, size) complex, from number `first` on.
            first: see there.
            capacity: how many of the latest are kept.
            size: edge of an object, pixels.
            device: where they are kept and cut.
        """
        self._objects, self._next = objects, first
        self._kept = torch.empty(capacity, size, size, dtype=torch.complex64, device=device)

    def advance(self, stop: int) -> None:
        """Take objects up to number `stop` from the row; they replace the oldest."""
        for j in range(self._next, stop):
            self._kept[j % len(self._kept)] = next(self._objects)
        self._next = max(self._next, stop)

    def cut(self, places: Places, shape: tuple[int, int]) -> Tensor:
        """Return tiles (N, H, W) of objects that are still kept."""
        where = zip(*(of_tile.tolist() for of_tile in places), strict=True)
        return torch.stack([self._tile(j, y, x, symmetry, shape) for j, y, x, symmetry in where])

    def _tile(self, j: int, y: int, x: int, orientation: int, shape: tuple[int, int]) -> Tensor:
        transposed = orientation & 1
        height, width = reversed(shape) if transposed else shape
        window = self._kept[j % len(self._kept), y : y + height, x : x + width]
        flipped = [axis for axis in (0, 1) if orientation >> (axis + 1) & 1]
        return (window.T if transposed else window).flip(flipped)
