"""Views of photographs and micrographs that scikit-image carries inside its wheel: nothing is downloaded."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Map = NDArray[np.float32]

# Of skimage.data, whose loaders fetch what a later release may leave out of the wheel: so the files are
# read here. Left out: pictures with large empty areas, and the second of a stereo pair.
IMAGES: Final = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "text.png",
)
ZOOM: Final = (0.3, 1.2)  # image pixels an object pixel; coarser sampling would alias


@cache
def grey_image(name: str) -> Map:
    """Return one of `IMAGES`, (Y, X) in [0, 1].

    Raises:
        FileNotFoundError: the installed scikit-image does not carry it.
    """
    with files("skimage.data").joinpath(name).open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def random_view(rng: np.random.Generator, size: int) -> Map:
    """Return a random crop (size, size) of a random image, turned and scaled; edges are mirrored."""
    image = grey_image(str(rng.choice(IMAGES)))
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(*np.log(ZOOM)))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = rng.uniform(0, image.shape) - turn @ np.full(2, size / 2)
    view: Map = ndimage.affine_transform(
        image, turn, offset, output_shape=(size, size), order=1, mode="mirror"
    )
    return view
