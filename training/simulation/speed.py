"""`python -m training.simulation.speed`: how many frames a second are simulated with a probe."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import click
import torch

from model.scans import ScanFileError
from training.simulation.factory import FrameFactory, Sample
from training.simulation.options import recipe_of_options, recipe_options
from training.simulation.probes import read_probe


def frames_per_second(factory: FrameFactory, batches: int) -> float:
    """Return how many frames a second a factory makes, after a first batch that fills its pool."""
    stream = islice(factory, batches + 1)
    _await(next(stream))
    begun = time.perf_counter()
    for sample in stream:
        _await(sample)
    return batches * factory.batch / (time.perf_counter() - begun)


def _await(sample: Sample) -> None:
    """Wait for a batch: an accelerator is handed its work and answers later."""
    if sample.counts.is_cuda:
        torch.cuda.synchronize(sample.counts.device)


def legal_device(_: click.Context, __: click.Parameter, name: str) -> str:
    """Return the name of a device that torch has here.

    Raises:
        BadParameter: it has none such.
    """
    if name not in ("cpu", "cuda"):
        raise click.BadParameter("cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("torch finds no NVIDIA GPU here")
    return name


@click.command(
    epilog="""\b
Example:
  python -m training.simulation.speed --probe siemens_star_aps.cxi --workers 1 --threads 1"""
)
@click.option(
    "--probe",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Scan file whose reference holds the probe, or a .npy with its modes.",
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Frames a batch.")
@click.option("--batches", type=click.IntRange(min=1), default=50, show_default=True, help="To time.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that draw objects beside the one that photographs them.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Of torch, on a CPU; its own number by default.")
@click.option("--device", callback=legal_device, default="cpu", show_default=True, help="cpu or cuda.")
@recipe_options
def command(
    probe: Path, batch: int, batches: int, workers: int, threads: int | None, device: str, **recipe: Any
) -> None:
    """Tell how fast the frames that `ptycholive train --probe` learns from are made."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        modes, drawn = read_probe(probe), recipe_of_options(recipe)
        tile = (modes.shape[1], modes.shape[2])
        factory = FrameFactory(modes, tile, batch, 1, drawn, workers=workers, device=device)
    except (ScanFileError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    speed = frames_per_second(factory, batches)
    click.echo(f"{speed:.0f} frames/s of {tile[0]} x {tile[1]} pixels, {len(modes)} modes, on {device}")


if __name__ == "__main__":
    command()
