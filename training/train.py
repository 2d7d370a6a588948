"""`ptycholive train`: fit a network to an instrument."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import lightning
import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from model.network import Kind
from model.scans import ScanFileError
from training.checkpoint import CheckpointError, read_checkpoint
from training.frames import SimulatedFrames
from training.plan import Precision, TrainingPlan, configure, read_reference
from training.provenance import command_line, environment
from training.simulate import SimulationRecipe
from training.task import ReconstructionTask

BEST, LAST = "best", "last"  # checkpoints of a run's folder, .ckpt
COMMAND = "command.txt"  # beside them: how the run was started
_NOTES = (  # of Lightning and torch, that tell a user of this command nothing
    r"Checkpoint directory .* exists and is not empty",  # it is a run that goes on
    r".*does not have many workers",  # --workers says how many; only on machines with more cores
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # torch calls what torch deprecated
)


class Run(NamedTuple):
    """A run that is ready to start, or to go on from a checkpoint."""

    trainer: lightning.Trainer
    task: ReconstructionTask
    frames: SimulatedFrames
    resume: Path | None


def prepare(
    plan: TrainingPlan, out: Path, workers: int = 0, trainer_options: dict[str, Any] | None = None
) -> Run:
    """Make everything of a run but its first step.

    Args:
        plan: of the run.
        out: folder for checkpoints and log; what a stopped run left there is gone on with.
        workers: processes that simulate beside the training.
        trainer_options: more of Lightning's, such as `devices`.

    Raises:
        ScanFileError: there is no probe to train with.
        ValueError: the plan does not fit the probe, or the run in `out` had another plan.
        MisconfigurationException: Lightning cannot follow the options.
    """
    probe = read_reference(plan.probe).probe
    resume = checkpoint_to_go_on(out, plan, probe)
    lightning.seed_everything(plan.seed, verbose=False)
    config = configure(plan, probe)
    task = ReconstructionTask(config, probe, {"plan": plan.as_record(), "environment": environment()})
    frames = SimulatedFrames(plan, probe, config.network.tile_shape, workers)
    with _quiet_lightning():
        return Run(_trainer(plan, out, trainer_options or {}), task, frames, resume)


def fit(run: Run) -> None:
    """Train to the plan's last step; the run's folder then holds the best checkpoint and the last."""
    with _quiet_lightning():
        run.trainer.fit(run.task, datamodule=run.frames, ckpt_path=run.resume, weights_only=True)


def checkpoint_to_go_on(out: Path, plan: TrainingPlan, probe: NDArray[np.complex64]) -> Path | None:
    """Return the last checkpoint of a run that was stopped, None where there is none.

    Raises:
        ValueError: it belongs to a run of another plan or probe.
    """
    last = out / f"{LAST}.ckpt"
    if not last.is_file():
        return None
    try:
        begun = read_checkpoint(last)
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    differ = differences(begun.record.get("plan", {}), plan.as_record())
    if not np.array_equal(begun.probe, probe):
        differ.append("the probe")
    if differ:
        raise ValueError(f"{out} holds a run with other settings ({', '.join(differ)}): give another --out")
    return last


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return the settings of a plan's record that are not what they were; its probe may have moved."""
    return [key for key in begun if key != "probe" and begun[key] != asked.get(key)]


def _trainer(plan: TrainingPlan, out: Path, options: dict[str, Any]) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=out,
        max_steps=plan.total_steps,
        precision=plan.precision,
        gradient_clip_val=1.0,
        val_check_interval=plan.steps_between_validations,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(str(out), name="", version=""),
        callbacks=_callbacks(out),
        enable_progress_bar=_on_terminal(),
        enable_model_summary=False,
        log_every_n_steps=20,
        **options,
    )


def _callbacks(out: Path) -> list[Callback]:
    keep = ModelCheckpoint(
        out, filename=BEST, monitor="val/loss", save_last=True, enable_version_counter=False
    )
    return [keep, TQDMProgressBar(refresh_rate=5)] if _on_terminal() else [keep]


def _on_terminal() -> bool:
    return sys.stdout.isatty()  # where Lightning's bar goes


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Drop the notes that tell a user of this command nothing."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for note in _NOTES:
            warnings.filterwarnings("ignore", note)
        yield


def plan_of_options(options: dict[str, Any]) -> TrainingPlan:
    """Return the plan that the command's options make; those that are not of the plan are left alone."""
    names = {field.name for field in fields(TrainingPlan)} - {"recipe"}
    recipe = replace(SimulationRecipe(), object_size=options["object_size"])
    return TrainingPlan(recipe=recipe, **{k: v for k, v in options.items() if k in names})


_ONE_OR_MORE = click.IntRange(min=1)
_DEVICES = re.compile(r"auto|[1-9]\d*|\d+(,\d+)+")


def _devices(_: click.Context, __: click.Parameter, devices: str) -> str:
    if not _DEVICES.fullmatch(devices):
        raise click.BadParameter('"auto", how many, or their numbers such as 0,2')
    return devices


@click.command(
    "train",
    epilog="""\b
Example:
  ptycholive train --probe siemens_star_aps.cxi --out runs/star --samples 300000
  ptycholive export runs/star/best.ckpt --out bundles/star --name star""",
)
@click.option(
    "--probe",
    type=click.Path(path_type=Path),
    required=True,
    help="Scan file whose reference holds the probe.",
)
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
    callback=_devices,
    default="auto",
    show_default=True,
    help='Handed to Lightning: "auto", how many, or their numbers.',
)
@click.option("--num-nodes", type=_ONE_OR_MORE, default=1, show_default=True, help="Handed to Lightning.")
@click.pass_context
def command(
    context: click.Context, /, out: Path, workers: int, devices: str, num_nodes: int, **options: Any
) -> None:
    """Fit a network to an instrument: its probe × random objects × counting noise, made on the fly."""
    try:
        run = prepare(plan_of_options(options), out, workers, {"devices": devices, "num_nodes": num_nodes})
        out.mkdir(parents=True, exist_ok=True)
        (out / COMMAND).write_text(command_line(context) + "\n", encoding="utf-8")
    except (ScanFileError, MisconfigurationException, ValueError, OSError) as error:
        raise click.UsageError(" ".join(str(error).split())) from error
    fit(run)
    click.echo(f"best checkpoint: {out / BEST}.ckpt\nlog: tensorboard --logdir {out}")
