"""`ptycholive export`: a checkpoint becomes a bundle that the service runs."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.bundle import BundleError, find_bundle, load_bundle
from model.device_graph import add_gpu
from model.export import ExportRequest, as_counts, export_bundle
from model.quantization import add_int8
from model.scans import Reference, ScanFileError
from training.checkpoint import Checkpoint, CheckpointError, load_task, matching_tilts, read_checkpoint
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
GPU_FRAMES = 32  # measured ones that tell which convolutions fit float16, and that the phase is compared on
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
    counts = measured_counts(out, scan, 2 * INT8_FRAMES, "int8")
    int8 = add_int8(out, counts[::2], counts[1::2], scan.name)
    return (
        f"{out}: {int8.convolutions} of {int8.of} convolutions in int8 change the phase by "
        f"{int8.phase_rms_rad:.4f} rad and the amplitude by {int8.amplitude_rms:.4f}, "
        f"on {int8.frames} frames of {int8.scan}"
    )


def write_gpu(out: Path, scan: MeasuredScan) -> str:
    """Write a bundle's graph for a GPU beside it; return one line on it.

    Raises:
        BundleError: the scan's frames are not the bundle's or too few, or the phase would change too much.
    """
    gpu = add_gpu(out, measured_counts(out, scan, GPU_FRAMES, "gpu"), scan.name)
    return (
        f"{out}: {gpu.convolutions} of {gpu.of} convolutions in {gpu.precision} change the phase by "
        f"{gpu.phase_rms_rad:.5f} rad and the amplitude by {gpu.amplitude_rms:.5f}, "
        f"on {gpu.frames} frames of {gpu.scan}; counts come as bytes"
    )


def measured_counts(out: Path, scan: MeasuredScan, frames: int, wanted_for: str) -> NDArray[Any]:
    """Return frames (n, 1, H, W) of all parts of a scan, as the bundle's graph takes them.

    Raises:
        BundleError: they are not of the bundle's shape, or too few.
    """
    told = load_bundle(out).description
    if scan.counts.shape[1:] != told.frame_shape:
        raise BundleError(f"{scan.name} has frames {scan.counts.shape[1:]}, {out} takes {told.frame_shape}")
    if len(scan.counts) < frames:
        raise BundleError(f"{scan.name} has {len(scan.counts)} frames, {frames} are needed for {wanted_for}")
    which = np.linspace(0, len(scan.counts) - 1, frames).astype(int)
    return as_counts(scan.frames(which, told.invalid_counts), told.counts_dtype).numpy()


def copy_bundle(source: Path, out: Path) -> str:
    """Copy a bundle, unless it is there already; return one line on it.

    Raises:
        BundleError: it is none.
    """
    bundle = load_bundle(source)
    if not (out.exists() and out.samefile(source)):
        out.mkdir(parents=True, exist_ok=True)
        for name in bundle.files:
            shutil.copyfile(source / name, out / name)
    return f"{out}: bundle {bundle.description.name}, as it is in {source}"


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
  ptycholive export runs/star/best.ckpt --out bundles/star --name siemens-star
  ptycholive export siemens-star --out bundles/star-gpu --gpu service/data/siemens_star_aps.cxi""",
)
@click.argument("source", metavar="CHECKPOINT|BUNDLE")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The bundle's folder; made if need be.",
)
@click.option("--name", callback=legal_name, help="What the model is called; a bundle keeps its name.")
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
@click.option(
    "--gpu",
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="Measured scan, with its probe: write a network for GPUs too, 16-bit convolutions, compared on it.",
)
def command(
    source: str, out: Path, name: str | None, int8: Path | None, gpu: Path | None, **how: Any
) -> None:
    """Write a bundle from a checkpoint: ONNX file, probe, and what the model says of itself.

    Of a bundle, its folder or the name of a shipped one, a copy is written. --int8 and --gpu add networks
    to either.
    """
    more = [(write, file) for write, file in ((write_int8, int8), (write_gpu, gpu)) if file is not None]
    try:
        measured = [(write, read_measured(file)) for write, file in more]
        click.echo(_exported(source, out, name, **how))
        for write, frames in measured:
            click.echo(write(out, frames))
    except (CheckpointError, ScanFileError, OSError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except BundleError as error:
        raise click.ClickException(str(error)) from error


def _exported(source: str, out: Path, name: str | None, **how: Any) -> str:
    """Write what a checkpoint or a bundle tells of; return one line on it."""
    if not Path(source).is_file():
        return copy_bundle(_bundle_folder(source), out)
    if name is None:
        raise click.UsageError("a checkpoint's bundle needs a --name")
    return export(Path(source), out, name, **how)


def _bundle_folder(source: str) -> Path:
    try:
        return find_bundle(source)
    except BundleError as error:
        raise click.UsageError(f"checkpoint {source} does not exist, and {error}") from error
