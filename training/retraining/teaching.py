"""The candidate's training: its plan, from its parent's where there is one, and the run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.checkpoint import Checkpoint, read_checkpoint
from training.plan import TrainingPlan
from training.record import COMMAND, plan_of
from training.registry import Entry
from training.run import BEST, fit, prepare
from training.simulation.probes import read_probe

_SAMPLES_BETWEEN_VALIDATIONS, _MOST_VALIDATIONS = 2000, 50


@dataclass(frozen=True, slots=True)
class Machine:
    """What trains.

    Attributes:
        workers: processes that make frames beside the training.
        devices: as Lightning takes them.
    """

    workers: int = 0
    devices: str = "auto"


def plan_for(probe: Path, parent: Entry | None, asked: dict[str, Any]) -> TrainingPlan:
    """Return the plan of a candidate: its parent's with another probe, going on from its parent's weights.

    Where the parent's checkpoint is not known, or knows another number of modes, it begins from nothing.

    Args:
        probe: scan file whose reference holds the probe.
        parent: in the registry, None without.
        asked: fields of the plan that are chosen; None: the parent's, or the plan's own default.

    Raises:
        CheckpointError: the parent's checkpoint cannot be used.
        ScanFileError: there is no probe.
    """
    start = _start(probe, parent)
    plan = TrainingPlan(probe) if start is None else plan_of(start)
    chosen = {name: value for name, value in asked.items() if value is not None}
    changed = replace(plan, probe=probe, start=None if start is None else start.path, **chosen)
    looks = min(_MOST_VALIDATIONS, max(1, changed.samples // _SAMPLES_BETWEEN_VALIDATIONS))
    return replace(changed, validations=looks)


def teach(plan: TrainingPlan, work: Path, machine: Machine, command: str) -> Path:
    """Train, or go on with a run of the same plan that was stopped, and return the best checkpoint.

    Args:
        plan: of the run.
        work: folder in which the run gets one of its own.
        machine: what trains.
        command: written beside the checkpoint.

    Raises:
        ScanFileError, CheckpointError, ValueError, MisconfigurationException: as of `training.run.prepare`.
    """
    said = json.dumps(plan.as_record(), sort_keys=True).encode()
    out = work / f"run-{hashlib.sha256(said).hexdigest()[:12]}"
    run = prepare(plan, out, machine.workers, {"devices": machine.devices})
    out.mkdir(parents=True, exist_ok=True)
    (out / COMMAND).write_text(command + "\n", encoding="utf-8")
    fit(run)
    return out / f"{BEST}.ckpt"


def _start(probe: Path, parent: Entry | None) -> Checkpoint | None:
    if parent is None or parent.checkpoint is None:
        return None
    start = read_checkpoint(parent.checkpoint)
    fits = start.probe is not None and start.probe.shape == read_probe(probe).shape
    return start if fits else None
