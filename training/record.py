"""How a network came to be: the plan, the command and the recipe that lie beside its weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from training.checkpoint import Checkpoint, CheckpointError
from training.plan import TrainingPlan
from training.provenance import environment
from training.simulation.objects import EVERY_FAMILY

COMMAND = "command.txt"  # of a run's folder: how to make it again
_SIMULATED = "simulated frames only: the scan's probe × random objects × counting noise"
_NO_PLAN = "{} was not trained with --probe: only a network that was fitted to an instrument is exported"


def plan_of(checkpoint: Checkpoint) -> TrainingPlan:
    """Return the plan that a checkpoint records.

    Raises:
        CheckpointError: it is not that of a network that was fitted to an instrument's probe.
    """
    try:
        return TrainingPlan.from_record(checkpoint.record["plan"])
    except (KeyError, msgspec.ValidationError) as error:
        raise CheckpointError(_NO_PLAN.format(checkpoint.path)) from error


def command_of(checkpoint: Checkpoint) -> str | None:
    """Return the command that is written beside a checkpoint, None where there is none."""
    file = checkpoint.path.with_name(COMMAND)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def lineage(start: Checkpoint) -> dict[str, Any]:
    """Return what is told of the checkpoint that a run starts from: plain values."""
    begun_with = start.record.get("start")  # its own start, and so on
    told = {"checkpoint": str(start.path), "steps": start.steps, "command": command_of(start)}
    return told | ({"start": begun_with} if begun_with else {})


def training_record(checkpoint: Checkpoint, plan: TrainingPlan) -> dict[str, Any]:
    """Return how the network was trained, for the bundle's description."""
    measured = checkpoint.record.get("self_supervised", {})
    return {
        "command": command_of(checkpoint),
        "seed": plan.seed,
        "samples_seen": checkpoint.steps * plan.batch,
        "batch": plan.batch,
        "precision": plan.precision,
        "data": measured.get("data", _SIMULATED),
        "recipe": asdict(plan.recipe),
        "not_shown_in_training": [n for n in EVERY_FAMILY if n not in plan.recipe.objects.families],
        "schedule": asdict(checkpoint.config.schedule),
        "loss": asdict(checkpoint.config.loss),
        "environment": checkpoint.record.get("environment"),
        "exported_with": environment(),
        "start": checkpoint.record.get("start"),
    }
