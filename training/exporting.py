"""`ptycholive export`: a checkpoint becomes a bundle that the service runs."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

from model.bundle import BundleError, load_bundle
from model.export import ExportRequest, as_counts, export_bundle
from model.quantization import add_int8
from model.scans import Reference, ScanFileError
from training.checkpoint import Checkpoint, CheckpointError, load_task, read_checkpoint
from training.frames import EVALUATION_SEED
from training.judging.calibration import calibrate_trust
from training.judging.families import family_figures
from training.plan import TrainingPlan, read_reference
from training.progress import shown
from training.record import plan_of, training_record
from training.simulation.factory import FrameFactory
from training.simulation.objects import EVERY_FAMILY, HELD_OUT
from training.task import ReconstructionTask
from training.unlabelled.measured import MeasuredScan, read_measured

PARITY_FRAMES = 64
INT8_FRAMES = 32  # measured ones that tell the ranges, and as many others that the phase is compared on
_LEGAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def figures(task: ReconstructionTask, plan: TrainingPlan, tiles: int) -> dict[str, Any]:
    """Judge the network on every family, with a progress bar on a terminal."""
    table = []
    with shown("Judging on held-out frames", len(EVERY_FAMILY)) as advance:
        for family in EVERY_FAMILY:
            table.append(asdict(family_figures(task, plan, family, tiles)))
            advance(1)
    return {
        "note": (
            "simulated frames that neither taught the network nor chose its checkpoint; errors of each tile "
            "under the probe's weight, mean and standard deviation over tiles; objects of "
            f"{', '.join(HELD_OUT)} were not shown in training"
        ),
        "families": table,
    }


def parity_frames(task: ReconstructionTask, plan: TrainingPlan) -> Tensor:
    """Return simulated counts (N, 1, H, W) to compare the exported graph with torch on."""
    shape, seed = task.config.network.tile_shape, plan.seed + EVALUATION_SEED
    factory = FrameFactory(task.known_probe(), shape, PARITY_FRAMES, seed, plan.recipe)
    return factory.make(0).counts


def checked_reference(checkpoint: Checkpoint, scan: Path) -> Reference:
    """Return the reference of the scan whose probe the network was fitted to.

    Raises:
        CheckpointError: the scan's probe is another.
        ScanFileError: it has none.
    """
    reference = read_reference(scan)
    if checkpoint.probe is None or not np.array_equal(reference.probe, checkpoint.probe):
        raise CheckpointError(f"{checkpoint.path} was not trained with the probe of {scan}: give its --scan")
    return reference


def write_int8(out: Path, scan: MeasuredScan) -> str:
    """Write a bundle's graph with 8-bit convolutions beside it; return one line on it.

    Raises:
        BundleError: the scan's frames are not the bundle's or too few, or the phase would change too much.
    """
    told = load_bundle(out).description
    if scan.counts.shape[1:] != told.frame_shape:
        raise BundleError(f"{scan.name} has frames {scan.counts.shape[1:]}, {out} takes {told.frame_shape}")
    if len(scan.counts) < 2 * INT8_FRAMES:
        raise BundleError(f"{scan.name} has {len(scan.counts)} frames, {2 * INT8_FRAMES} are needed for int8")
    which = np.linspace(0, len(scan.counts) - 1, 2 * INT8_FRAMES).astype(int)
    counts = as_counts(scan.frames(which, told.invalid_counts), told.counts_dtype).numpy()
    int8 = add_int8(out, counts[::2], counts[1::2], scan.name)
    return (
        f"{out}: {int8.convolutions} of {int8.of} convolutions in int8 change the phase by "
        f"{int8.phase_rms_rad:.4f} rad and the amplitude by {int8.amplitude_rms:.4f}, "
        f"on {int8.frames} frames of {int8.scan}"
    )


def matching_tilts(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose network matches tilts to patterns; the paper's, which cannot, as it is."""
    config = checkpoint.config.network
    matched = replace(config, match_tilt=config.kind == "probe-informed")
    return replace(checkpoint, config=replace(checkpoint.config, network=matched))


def export(path: Path, out: Path, name: str, scan: Path | None, tiles: int, match_tilt: bool = True) -> str:
    """Write the bundle and return one line on it.

    Args:
        path: of the checkpoint.
        out: the bundle's folder; made if need be.
        name: of the model.
        scan: whose reference holds the probe; that of the training where None.
        tiles: of each family to judge on.
        match_tilt: of a network that knows its probe: each tile's tilt is matched to its pattern.

    Raises:
        CheckpointError: the checkpoint cannot be used, or its scan is another.
        ScanFileError: the scan file cannot be used.
        ValueError: too few tiles to calibrate by.
        BundleError: the exported graph does not give torch's numbers.
    """
    checkpoint = read_checkpoint(path)
    plan = plan_of(checkpoint)
    if plan.method is not None:
        raise CheckpointError(
            f"{path} is of {plan.method}: only networks trained without --method are exported"
        )
    reference = checked_reference(checkpoint, scan or plan.probe)
    checkpoint = matching_tilts(checkpoint) if match_tilt else checkpoint
    task = load_task(checkpoint).eval()
    request = ExportRequest(
        name=name,
        object_pixel_m=reference.object_pixel_m,
        detector_saturation=plan.recipe.camera.saturation,
        training=training_record(checkpoint, plan),
        figures=figures(task, plan, tiles),
        trust=calibrate_trust(task, plan, tiles),
    )
    found = export_bundle(task.network, reference.probe, parity_frames(task, plan), request, out)
    return f"{out}: bundle {name}, within {found.worst:.1e} of torch on {PARITY_FRAMES} frames"


def legal_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """Return what --name was given, as a model may be called.

    Raises:
        BadParameter: it may not be called that.
    """
    if name is not None and not _LEGAL_NAME.fullmatch(name):
        raise click.BadParameter("at most 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    return name


@click.command(
    "export",
    epilog="""\b
Example:
  ptycholive export runs/star/best.ckpt --out bundles/star --name siemens-star""",
)
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The bundle's folder; made if need be.",
)
@click.option("--name", callback=legal_name, required=True, help="What the model is called.")
@click.option(
    "--scan",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Scan file whose reference holds the probe and the object's pixel; that of the training by default.",
)
@click.option(
    "--tiles",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Held-out tiles of each family to judge on.",
)
@click.option(
    "--match-tilt/--as-painted",
    default=True,
    show_default=True,
    help="Whether each tile gets the phase ramp that its own pattern tells: a last step that has "
    "nothing to learn.",
)
@click.option(
    "--int8",
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="Measured scan, with its probe: write a network with 8-bit convolutions too, fitted to its frames.",
)
def command(
    checkpoint: Path, out: Path, name: str, scan: Path | None, tiles: int, match_tilt: bool, int8: Path | None
) -> None:
    """Write a bundle from a checkpoint: ONNX file, probe, and what the model says of itself."""
    try:
        measured = None if int8 is None else read_measured(int8)
        click.echo(export(checkpoint, out, name, scan, tiles, match_tilt))
        if measured is not None:
            click.echo(write_int8(out, measured))
    except (CheckpointError, ScanFileError, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except BundleError as error:
        raise click.ClickException(str(error)) from error
