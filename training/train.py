"""`ptycholive train`: fit a network to an instrument, or a published method to a labelled set."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource
from lightning.fabric.utilities.exceptions import MisconfigurationException

from model.network import Kind
from model.scans import ScanFileError
from training.checkpoint import CheckpointError
from training.datasets.sets import SETS
from training.datasets.splits import SPLIT_NAMES
from training.labelled_plan import LabelledPlan
from training.methods import METHODS
from training.plan import Precision, TrainingPlan
from training.provenance import command_line
from training.record import COMMAND
from training.run import BEST, Plan, Run, fit, prepare
from training.simulation.options import RECIPE_OPTIONS, recipe_of_options, recipe_options
from training.unlabelled.plan import SelfSupervisedPlan
from training.unlabelled.ptynet_physics import PHYSICS_METHOD, PhysicsPlan, prepare_physics
from training.unlabelled.run import prepare_self_supervised, self_supervised_plan

_OF_SIMULATION = (
    "kind",
    "tile_px",
    "width",
    "steps",
    "keep_exposure_out",
    "likelihood",
    "spread",
    "ema",
    "samples",
    "batch",
    "learning_rate",
    "validations",
    *RECIPE_OPTIONS,
)
_OF_LABELS = {"split": "--data or --self-supervised", "epochs": "--data"}
_OF_NO_METHOD = ("kind", "tile_px", "width", "steps", "keep_exposure_out", "likelihood", "spread")
_OF_A_NEW_NETWORK = (
    "kind",
    "tile_px",
    "width",
    "steps",
    "keep_exposure_out",
    "spread",
    *RECIPE_OPTIONS,
)  # a checkpoint brings its own


def plan_of_options(options: dict[str, Any]) -> Plan:
    """Return the plan that the command's options make; those that are not of the plan are left alone.

    Raises:
        CheckpointError: the checkpoint to start from cannot be used.
        ValueError: not exactly one of a probe, a labelled set and a scan without labels is given, or there
            is nothing to tune.
    """
    if sum(options[source] is not None for source in ("probe", "data", "scan")) != 1:
        raise ValueError(
            "give --probe to learn from simulated frames, or --data to learn from a labelled set, "
            "or --self-supervised to learn from measured counts"
        )
    if options["data"] is not None:
        return _labelled_plan(options)
    options = {**options, "recipe": recipe_of_options(options)}
    if options["scan"] is not None:
        return self_supervised_plan(_chosen({**options, "probe": options["scan"]}, SelfSupervisedPlan))
    return TrainingPlan(**_chosen(options, TrainingPlan))


def _labelled_plan(options: dict[str, Any]) -> LabelledPlan:
    if options["method"] != PHYSICS_METHOD:
        return LabelledPlan(**_chosen(options, LabelledPlan))
    if options["start"] is None:
        raise ValueError(f"{PHYSICS_METHOD} tunes a trained network: give --from, a checkpoint of ptynet")
    return PhysicsPlan(**_chosen(options, PhysicsPlan))


def _chosen(options: dict[str, Any], plan: type[Plan]) -> dict[str, Any]:
    """Return what was said of a plan's fields; what was left open keeps the plan's own default."""
    names = {field.name for field in fields(plan)}
    return {name: value for name, value in options.items() if name in names and value is not None}


def _prepare(plan: Plan, out: Path, workers: int, trainer_options: dict[str, Any]) -> Run:
    if isinstance(plan, SelfSupervisedPlan):
        return prepare_self_supervised(plan, out, workers, trainer_options)
    if isinstance(plan, PhysicsPlan):
        return prepare_physics(plan, out, workers, trainer_options)
    return prepare(plan, out, workers, trainer_options)


def _refuse_idle_options(context: click.Context) -> None:
    """Raise UsageError for an option that was typed and that the chosen data make no use of."""
    idle = _idle_options(context.params)
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in idle and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} goes with {idle[name]} only")


def _idle_options(given: dict[str, Any]) -> dict[str, str]:
    """Return what the options go with that the chosen data make no use of."""
    idle = dict(_OF_LABELS)
    if given["known"] is None:
        idle["known_share"] = "--known"
    if given["data"] is not None:
        idle = dict.fromkeys(_OF_SIMULATION, "--probe")
    elif given["method"] is not None:
        idle |= dict.fromkeys(_OF_NO_METHOD, "networks without --method")
    if given["data"] is not None and given["method"] != PHYSICS_METHOD:
        idle["start"] = f"--probe, --self-supervised or {PHYSICS_METHOD}"
    if given["scan"] is not None:
        idle |= {"method": "--probe or --data", "spread": "--probe"}
        idle.pop("split", None)
    if given["scan"] is not None and given["start"] is not None:
        idle |= dict.fromkeys(_OF_A_NEW_NETWORK, "a new network")
    return idle


_ONE_OR_MORE = click.IntRange(min=1)
_DEVICES = re.compile(r"auto|[1-9]\d*|\d+(,\d+)+")


def legal_devices(_: click.Context, __: click.Parameter, devices: str) -> str:
    """Return what --devices was given, as Lightning takes it.

    Raises:
        BadParameter: it is not "auto", a number or numbers.
    """
    if not _DEVICES.fullmatch(devices):
        raise click.BadParameter('"auto", how many, or their numbers such as 0,2')
    return devices


@click.command(
    "train",
    epilog="""\b
Example:
  ptycholive train --probe siemens_star_aps.cxi --out runs/star --samples 300000
  ptycholive export runs/star/best.ckpt --out bundles/star --name star
  ptycholive train --probe siemens_star_aps.cxi --method ptychonn --out runs/star-ptychonn
  ptycholive train --data usaf-noisy --method ptychonn --split rows --out runs/ptychonn
  ptycholive train --self-supervised scan.cxi --from runs/star/best.ckpt --out runs/tuned""",
)
@click.option(
    "--probe",
    type=click.Path(path_type=Path),
    help="Scan file whose reference holds the probe: learn from simulated frames.",
)
@click.option(
    "--data",
    metavar="SET|FILE",
    help=f"Learn from a labelled set: {', '.join(SETS)}, a scan file with a reference, PtychoNN's .npz.",
)
@click.option(
    "--self-supervised",
    "scan",
    metavar="SCAN",
    type=click.Path(path_type=Path),
    help="Learn from this scan file's measured counts alone; of its reference only the probe is used.",
)
@click.option(
    "--from",
    "start",
    metavar="CHECKPOINT",
    type=click.Path(path_type=Path),
    help="Start from this network's weights: of ptynet-physics one of ptynet, else one trained with --probe, "
    "which may have had fewer --steps.",
)
@click.option(
    "--method",
    type=click.Choice([*METHODS, PHYSICS_METHOD]),
    show_default="with --data: paper",
    help="A published method: with --data each has its own loss and schedule, with --probe its own loss.",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_NAMES),
    show_default="with --data: rows",
    help="Of --data or --self-supervised: the paper's rows, the released code's corner, or parts that share "
    "no object pixel. Its test part is left to `evaluate --part test`.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Over --data; the method's own number by default.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for checkpoints and the log; a run found there goes on.",
)
@click.option("--kind", type=click.Choice(get_args(Kind)), default="probe-informed", show_default=True)
@click.option(
    "--tile",
    "tile_px",
    type=click.IntRange(min=16),
    default=80,
    show_default=True,
    help="Edge of the painted tile, pixels; the paper's kind paints the whole frame.",
)
@click.option(
    "--width", type=_ONE_OR_MORE, default=32, show_default=True, help="Channels at half resolution."
)
@click.option(
    "--steps", type=_ONE_OR_MORE, default=2, show_default=True, help="Meetings with the measurement."
)
@click.option(
    "--keep-exposure-out/--absolute-counts",
    default=True,
    show_default=True,
    help="Whether the network sees each frame at the empty beam's counts, or takes its photons as they are.",
)
@click.option(
    "--likelihood",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Weight of the pattern's Poisson likelihood beside the errors of the tile; 0: tiles alone.",
)
@click.option(
    "--spread/--no-spread",
    default=None,
    show_default="with --probe: spread",
    help="Whether the network learns how sure it is of the phase of every pixel.",
)
@click.option(
    "--ema/--no-ema",
    default=True,
    show_default=True,
    help="Whether the weights' moving average is what is validated and kept, or the weights themselves.",
)
@click.option(
    "--samples",
    type=_ONE_OR_MORE,
    default=300_000,
    show_default=True,
    help="Simulated frames to learn from, on each device.",
)
@click.option("--batch", type=_ONE_OR_MORE, default=32, show_default=True, help="Frames a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    show_default="0.001; tuning without labels, 0.0001",
    help="The greatest of the schedule.",
)
@click.option("--precision", type=click.Choice(get_args(Precision)), default="32-true", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of weights, objects and noise.",
)
@click.option(
    "--validations",
    type=_ONE_OR_MORE,
    default=50,
    show_default=True,
    help="How often held-out frames are looked at, and a checkpoint is written.",
)
@recipe_options
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that prepare frames beside the training.",
)
@click.option(
    "--devices",
    callback=legal_devices,
    default="auto",
    show_default=True,
    help='Handed to Lightning: "auto", how many, or their numbers.',
)
@click.option("--num-nodes", type=_ONE_OR_MORE, default=1, show_default=True, help="Handed to Lightning.")
@click.pass_context
def command(
    context: click.Context, /, out: Path, workers: int, devices: str, num_nodes: int, **options: Any
) -> None:
    """Train a network.

    With --probe it is fitted to an instrument: its probe × random objects × counting noise, made on the fly.
    With --data a published method learns from frames with known tiles.
    With --self-supervised it learns from measured frames without tiles, by how likely their counts are.
    """
    _refuse_idle_options(context)
    try:
        trainer_options = {"devices": devices, "num_nodes": num_nodes}
        run = _prepare(plan_of_options(options), out, workers, trainer_options)
        out.mkdir(parents=True, exist_ok=True)
        (out / COMMAND).write_text(command_line(context) + "\n", encoding="utf-8")
    except (ScanFileError, CheckpointError, MisconfigurationException, ValueError, OSError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    fit(run)
    click.echo(f"best checkpoint: {out / BEST}.ckpt\nlog: tensorboard --logdir {out}")
