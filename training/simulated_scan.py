"""`ptycholive simulate`: a scan file of one random object, that `replay` can play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from model.scans import ScanFile, ScanFileError, open_scan, write_scan
from training.plan import read_reference
from training.simulation.objects import EVERY_FAMILY, HELD_OUT
from training.simulation.raster import ScanRecipe, simulate_scan


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
