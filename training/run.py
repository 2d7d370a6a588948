"""One training run: what is prepared before its first step, how it goes on, what it leaves behind."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from training.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from training.datasets.splits import split_set
from training.frames import LabelledFrames, SimulatedFrames
from training.labelled_plan import LabelledPlan, configure_labelled
from training.plan import UNRECORDED, TrainingPlan, configure
from training.provenance import environment
from training.record import lineage
from training.simulation.probes import main_modes, read_probe
from training.task import ReconstructionTask, TaskConfig
from training.warm_start import take_over

BEST, LAST = "best", "last"  # checkpoints of a run's folder, .ckpt
_NOTES = (  # of Lightning and torch, that tell a user of this command nothing
    r"Checkpoint directory .* exists and is not empty",  # it is a run that goes on
    r".*does not have many workers",  # --workers says how many; only on machines with more cores
    r"The number of training batches .* is smaller than the logging interval",  # of the smallest sets
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # torch calls what torch deprecated
)
Plan = TrainingPlan | LabelledPlan


class Run(NamedTuple):
    """A run that is ready to start, or to go on from a checkpoint."""

    trainer: lightning.Trainer
    task: ReconstructionTask
    frames: lightning.LightningDataModule
    resume: Path | None


class Material(NamedTuple):
    """What a plan comes to.

    Attributes:
        config: of the task.
        probe: (M, H, W) complex modes, None where the data know none.
        frames: to learn from.
        limits: of Lightning's trainer: how long, how often to look at the held-out frames, clipping.
    """

    config: TaskConfig
    probe: NDArray[np.complex64] | None
    frames: lightning.LightningDataModule
    limits: dict[str, Any]


def prepare(plan: Plan, out: Path, workers: int = 0, trainer_options: dict[str, Any] | None = None) -> Run:
    """Make everything of a run but its first step.

    Args:
        plan: of the run.
        out: folder for checkpoints and log; what a stopped run left there is gone on with.
        workers: processes that make frames beside the training.
        trainer_options: more of Lightning's, such as `devices`.

    Raises:
        ScanFileError: there is no probe, or no set, to train with.
        CheckpointError: the checkpoint to start from cannot be used.
        ValueError: the plan does not fit the data or its start, or the run in `out` had another plan.
        MisconfigurationException: Lightning cannot follow the options.
    """
    config, probe, frames, limits = gather(plan, workers)
    resume = checkpoint_to_go_on(out, plan, probe)
    lightning.seed_everything(plan.seed, verbose=False)
    start = _start_of(plan)
    record = {"plan": plan.as_record(), "environment": environment(), "start": start and lineage(start)}
    task = ReconstructionTask(config, probe, record)
    if start is not None:
        take_over(task, start.weights)
    with _quiet_lightning():
        return Run(_trainer(plan, out, limits | (trainer_options or {})), task, frames, resume)


def fit(run: Run) -> None:
    """Train to the plan's end; the run's folder then holds the best checkpoint and the last."""
    with _quiet_lightning():
        run.trainer.fit(run.task, datamodule=run.frames, ckpt_path=run.resume, weights_only=True)


def _start_of(plan: Plan) -> Checkpoint | None:
    if isinstance(plan, LabelledPlan) or plan.start is None:
        return None
    return read_checkpoint(plan.start)


def checkpoint_to_go_on(out: Path, plan: Plan, probe: NDArray[np.complex64] | None) -> Path | None:
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
    if not np.array_equal(begun.probe, probe):  # type: ignore[arg-type]  # two of None are equal too
        differ.append("the probe")
    if differ:
        raise ValueError(f"{out} holds a run with other settings ({', '.join(differ)}): give another --out")
    return last


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return the settings of a plan's record that are not what they were; its probe may have moved."""
    begun = {name: value for name, value in UNRECORDED.items() if name in asked} | begun
    return [key for key in begun if key != "probe" and begun[key] != asked.get(key)]


def gather(plan: Plan, workers: int) -> Material:
    """Open the data of a plan and configure the task for them.

    Raises:
        ScanFileError: there is no probe, or no set, to train with.
        ValueError: the plan does not fit the data.
    """
    return _labelled(plan, workers) if isinstance(plan, LabelledPlan) else _simulated(plan, workers)


def _simulated(plan: TrainingPlan, workers: int) -> Material:
    probe = read_probe(plan.probe)
    config = configure(plan, probe)
    limits = {
        "max_steps": plan.total_steps,
        "val_check_interval": plan.steps_between_validations,
        "check_val_every_n_epoch": None,
        "gradient_clip_val": plan.gradient_clip,
    }
    frames = SimulatedFrames(plan, probe, config.network.tile_shape, workers)
    return Material(config, main_modes(probe, plan.modes), frames, limits)


def _labelled(plan: LabelledPlan, workers: int) -> Material:
    data = plan.open_data()
    split = split_set(data, plan.split)
    limits = {"max_epochs": plan.total_epochs, "gradient_clip_val": plan.recipe.clip}
    frames = LabelledFrames(data, split, plan.recipe.batch, plan.seed, workers)
    return Material(configure_labelled(plan, data, split.train), data.probe, frames, limits)


def _trainer(plan: Plan, out: Path, options: dict[str, Any]) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=out,
        precision=plan.precision,
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
