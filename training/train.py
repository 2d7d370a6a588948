"""`ptycholive train`: fit a network to an instrument, or a published method to a labelled set."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource
from lightning.fabric.utilities.exceptions import MisconfigurationException

from model.network import Kind
from model.scans import ScanFileError
from training.datasets.sets import SETS
from training.datasets.splits import SPLIT_NAMES
from training.labelled_plan import LabelledPlan
from training.methods import METHODS
from training.plan import Precision, TrainingPlan
from training.provenance import command_line
from training.record import COMMAND
from training.run import BEST, Plan, fit, prepare
from training.simulation.factory import SimulationRecipe

_OF_SIMULATION = (
    "kind",
    "tile_px",
    "width",
    "steps",
    "samples",
    "batch",
    "learning_rate",
    "validations",
    "object_size",
)
_OF_LABELS = ("method", "split", "epochs")


def plan_of_options(options: dict[str, Any]) -> Plan:
    """Return the plan that the command's options make; those that are not of the plan are left alone.

    Raises:
        ValueError: neither a probe nor a labelled set is given, or both are.
    """
    if (options["probe"] is None) == (options["data"] is None):
        raise ValueError(
            "give --probe to learn from simulated frames, or --data to learn from a labelled set"
        )
    if options["probe"] is None:
        return LabelledPlan(**_chosen(options, LabelledPlan))
    recipe = replace(SimulationRecipe(), object_size=options["object_size"])
    return TrainingPlan(recipe=recipe, **_chosen(options, TrainingPlan))


def _chosen(options: dict[str, Any], plan: type[Plan]) -> dict[str, Any]:
    names = {field.name for field in fields(plan)}
    return {name: value for name, value in options.items() if name in names}


def _refuse_idle_options(context: click.Context) -> None:
    """Raise UsageError for an option that was typed and that the chosen data make no use of."""
    idle = _OF_LABELS if context.params["data"] is None else _OF_SIMULATION
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in idle and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            needs = "--data" if idle is _OF_LABELS else "--probe"
            raise click.UsageError(f"{parameter.opts[0]} goes with {needs} only")


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
  ptycholive train --data usaf-noisy --method ptychonn --split rows --out runs/ptychonn""",
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
    "--method",
    type=click.Choice(list(METHODS)),
    default="paper",
    show_default=True,
    help="What learns from --data, each with its published loss and schedule.",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_NAMES),
    default="rows",
    show_default=True,
    help="Of --data: the paper's rows, the released code's corner, or parts that share no object pixel.",
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
    default=1e-3,
    show_default=True,
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
@click.option(
    "--object-size",
    type=_ONE_OR_MORE,
    default=320,
    show_default=True,
    help="Edge of the random objects, pixels.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that simulate beside the training.",
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
    """
    _refuse_idle_options(context)
    try:
        run = prepare(plan_of_options(options), out, workers, {"devices": devices, "num_nodes": num_nodes})
        out.mkdir(parents=True, exist_ok=True)
        (out / COMMAND).write_text(command_line(context) + "\n", encoding="utf-8")
    except (ScanFileError, MisconfigurationException, ValueError, OSError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    fit(run)
    click.echo(f"best checkpoint: {out / BEST}.ckpt\nlog: tensorboard --logdir {out}")
