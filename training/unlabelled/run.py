"""A run without labels: one on the scan's instrument, with measured frames in place of simulated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from training.checkpoint import read_checkpoint
from training.record import plan_of
from training.run import Run, prepare
from training.task import ReconstructionTask
from training.unlabelled.measured import MeasuredScan, Parts, ScanFrames, parts_of, read_measured
from training.unlabelled.plan import FINE_TUNING_RATE, SelfSupervisedPlan
from training.unlabelled.task import ObjectiveWeights, SelfSupervisedTask

_OF_THE_NETWORK = ("kind", "tile_px", "width", "steps", "keep_exposure_out", "spread", "recipe")


def self_supervised_plan(settings: dict[str, Any]) -> SelfSupervisedPlan:
    """Return the plan of a run; a network that is tuned keeps the shape that its checkpoint gives it.

    Args:
        settings: of SelfSupervisedPlan, by name.

    Raises:
        CheckpointError: the start is no checkpoint of a network that was fitted to an instrument.
    """
    start = settings.get("start")
    if start is None:
        return SelfSupervisedPlan(**settings)
    begun = plan_of(read_checkpoint(start))
    kept = {name: getattr(begun, name) for name in _OF_THE_NETWORK}
    return SelfSupervisedPlan(**{"learning_rate": FINE_TUNING_RATE} | settings | kept)


def prepare_self_supervised(
    plan: SelfSupervisedPlan, out: Path, workers: int = 0, trainer_options: dict[str, Any] | None = None
) -> Run:
    """Make everything of a run but its first step, as `training.run.prepare` does.

    Args:
        plan: of the run.
        out: folder for checkpoints and log; what a stopped run left there is gone on with.
        workers: processes that gather batches beside the training.
        trainer_options: more of Lightning's, such as `devices`.

    Raises:
        ScanFileError: the scan has no probe, or cannot be read.
        CheckpointError: the start cannot be used.
        ValueError: scan, plan and start do not fit, or the run in `out` had another plan.
        MisconfigurationException: Lightning cannot follow the options.
    """
    run = prepare(plan, out, workers, trainer_options)
    scan = read_measured(plan.probe)
    network = run.task.config.network
    parts = parts_of(scan, plan.split, network.tile_shape)
    frames = ScanFrames(
        scan,
        parts,
        network.tile_shape,
        network.invalid_counts,
        plan.batch,
        plan.seed,
        plan.total_steps,
        workers,
    )
    return run._replace(task=_task(plan, run.task, scan, parts), frames=frames)


def _task(
    plan: SelfSupervisedPlan, simulated: ReconstructionTask, scan: MeasuredScan, parts: Parts
) -> SelfSupervisedTask:
    """Return the task with the weights of the simulated one."""
    config = simulated.config
    if plan.start is not None:
        begun = read_checkpoint(plan.start).config
        config = replace(begun, schedule=config.schedule, ema_decay=config.ema_decay)
    record = {**simulated.record, "self_supervised": _account(plan, scan, parts)}
    task = SelfSupervisedTask(
        config, simulated.known_probe(), record, ObjectiveWeights(plan.consistency, plan.gauge)
    )
    task.load_state_dict({**task.state_dict(), **dict(simulated.named_parameters())})
    return task


def _account(plan: SelfSupervisedPlan, scan: MeasuredScan, parts: Parts) -> dict[str, Any]:
    """Return what the network learned from, for a person who reads the checkpoint."""
    data = f"self-supervised: the measured counts of {len(parts.train)} frames of {scan.name}, no label used"
    return {
        "data": data if plan.split is None else f"{data}, none of the test part of its split {plan.split!r}",
        "scan": scan.name,
        "split": plan.split,
        "frames": len(parts.train),
        "held_out": len(parts.held_out),
        "labels": "none",
    }
