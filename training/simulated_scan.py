"""`ptycholive simulate`: a scan file of one random object, that `replay` can play."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from model.optics import intensity
from model.scans import Reference, ScanFile, ScanFileError, open_scan, write_scan
from training.plan import read_reference
from training.simulation.camera import CameraRecipe, expose, photograph
from training.simulation.objects import EVERY_FAMILY, FAMILIES, HELD_OUT
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
    with click.progressbar(
        range(0, len(corners), BATCH), label="Scanning", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as starts:
        for start in starts:
            some = corners[start : start + BATCH]
            tiles = torch.as_tensor(np.stack([whole[y : y + height, x : x + width] for y, x in some]))
            photographed = photograph(modes, expose(tiles, recipe.camera, noise), recipe.camera, noise)
            counts[start : start + BATCH] = photographed.numpy()
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


def write_simulated_scan(out: Path, probe_scan: Path, recipe: ScanRecipe) -> None:
    """Simulate a scan with the probe, geometry and pixel of a measured one and write it.

    Raises:
        ScanFileError: the measured scan has no reference, or the file cannot be written.
    """
    measured = read_reference(probe_scan)
    counts, truth = simulate_scan(measured.probe, measured.object_pixel_m, recipe)
    centres = truth.positions_px + np.array(measured.probe.shape[1:]) // 2
    with open_scan(probe_scan) as scan:
        write_scan(
            out,
            counts,
            centres * measured.object_pixel_m,
            **_geometry(scan),
            saturation=recipe.camera.saturation,
            reference=truth,
            attributes={"source": f"simulated with the probe of {probe_scan.name}", "method": str(recipe)},
        )


def _geometry(scan: ScanFile) -> dict[str, Any]:
    names = ("wavelength_m", "distance_m", "detector_pixel_m")
    return {name: getattr(scan, name) for name in names}


@click.command(
    "simulate",
    epilog="""\b
Example:
  ptycholive simulate --out spokes.cxi --probe siemens_star_aps.cxi --family spokes --frames 900
  ptycholive replay spokes.cxi --to tcp://127.0.0.1:9999 --format native""",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Scan file to write."
)
@click.option(
    "--probe",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Scan file whose reference holds the probe and the object's pixel.",
)
@click.option(
    "--family",
    type=click.Choice(tuple(EVERY_FAMILY)),
    help=f"What the object is made of; by default one of training's at random. Not shown in training: "
    f"{', '.join(HELD_OUT)}.",
)
@click.option("--frames", type=click.IntRange(min=1, max=100_000), default=400, show_default=True)
@click.option(
    "--step-px",
    type=click.FloatRange(min=1),
    default=8.0,
    show_default=True,
    help="Between neighbours of the raster, object pixels.",
)
@click.option(
    "--jitter-px",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Each position is moved by up to this.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
def command(out: Path, probe: Path, family: str | None, **options: Any) -> None:
    """Write a scan file of one random object, the measured probe and the camera's noise."""
    recipe = ScanRecipe(**options)
    if family is not None:
        recipe = replace(recipe, families=(family,))
    try:
        write_simulated_scan(out, probe, recipe)
    except ScanFileError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{out}: {recipe.frames} simulated frames, the true object beside them")
