"""Studies: grids of trainings, each cell trained, judged and written down once."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoint import load_task, read_checkpoint
from training.datasets.labelled import LabelledSet
from training.datasets.sets import open_set
from training.datasets.splits import SplitName, split_set
from training.judging.evaluation import Evaluation, JudgedMosaic, Painted, evaluate_set, judge_painted
from training.judging.iterative import Engine
from training.judging.iterative_tiles import paint_iteratively
from training.judging.metrics import as_json
from training.judging.predictor import count_macs, predict_with
from training.labelled_plan import LabelledPlan
from training.methods import ABLATIONS, BASELINES
from training.plan import Precision
from training.provenance import environment
from training.run import BEST, LAST, fit, prepare
from training.task import ReconstructionTask

FIGURES = "figures.json"  # of a cell's folder; its being there says that the cell is done
KEPT_PX = 48  # of each tile's middle in the paper's stitching; its synthetic tiles are smaller than that
Record = dict[str, Any]


class CellBusyError(Exception):
    """Another process works on this cell."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """An iterative reconstruction of the test frames of a set's split."""

    data: str
    split: SplitName
    engine: Engine
    iterations: int


@dataclass(frozen=True, slots=True)
class Study:
    """A grid of trainings.

    Attributes:
        title: what it asks.
        sets, splits, methods: that are crossed.
        epochs: of every cell; None: as published, but for those in `fewer`.
        fewer: epochs of methods whose published number takes days without a GPU.
        engines: iterative ones that reconstruct the same test frames.
        iterations: of each engine.
    """

    title: str
    sets: tuple[str, ...]
    splits: tuple[SplitName, ...]
    methods: tuple[str, ...]
    epochs: int | None = None
    fewer: tuple[tuple[str, int], ...] = ()
    engines: tuple[Engine, ...] = ()
    iterations: int = 50

    def reconstructions(self) -> list[Reconstruction]:
        """Return the iterative reconstructions that stand beside the cells, one of each set and split."""
        return [
            Reconstruction(data, split, engine, self.iterations)
            for data in self.sets
            for split in self.splits
            for engine in self.engines
        ]

    def plans(self, seeds: int, precision: Precision) -> list[LabelledPlan]:
        """Return the cells, all of one seed before those of the next."""
        fewer = dict(self.fewer)
        return [
            LabelledPlan(data, method, split, self.epochs or fewer.get(method), precision, seed)
            for seed in range(1, seeds + 1)
            for data in self.sets
            for split in self.splits
            for method in self.methods
        ]

    def quick(self) -> Study:
        """Return the same grid on a corner of the chart, one epoch each: that it runs, not what is true."""
        return replace(self, sets=tuple(_QUICK[data] for data in self.sets), epochs=1, fewer=(), iterations=2)


_QUICK = {
    "usaf": "usaf-tiny",
    "usaf-noisy": "usaf-tiny-noisy",
    "usaf-wrapping": "usaf-tiny-wrapping",
    "usaf-wrapping-gauge": "usaf-tiny-wrapping-gauge",
}
_FEWER = (("dpi", 25), ("ptynet", 60), ("ppn", 2))
STUDIES: dict[str, Study] = {
    "ablations": Study(
        "What each part of the paper's method is worth",
        ("usaf",),
        ("rows",),
        ("paper", *ABLATIONS),
        epochs=10,
    ),
    "methods": Study(
        "The paper's method beside others",
        ("usaf", "usaf-noisy"),
        ("rows",),
        ("paper", *BASELINES),
        fewer=_FEWER,
        engines=get_args(Engine),
    ),
    "splits": Study(
        "What shared object pixels are worth",
        ("usaf", "usaf-noisy"),
        ("rows", "corner", "disjoint"),
        ("paper",),
    ),
    "wrapping": Study(
        "A phase that wraps: on the circle, or as a number",
        ("usaf-wrapping", "usaf-wrapping-gauge"),
        ("rows",),
        ("paper", "no-circular-representation"),
    ),
}


def folder_of(plan: LabelledPlan, root: Path) -> Path:
    """Return where a cell lies below the study's folder."""
    method = plan.method if plan.epochs is None else f"{plan.method}-{plan.epochs}"
    return root / plan.data / plan.split / method / f"seed-{plan.seed}"


def read_cell(plan: LabelledPlan, root: Path) -> Record | None:
    """Return a cell's record, None where it is not done yet."""
    file = folder_of(plan, root) / FIGURES
    record: Record | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return record


def run_cell(plan: LabelledPlan, root: Path, trainer_options: dict[str, Any] | None = None) -> Record:
    """Train and judge a cell, or go on with it, and return its record.

    Args:
        plan: of the cell.
        root: the study's folder.
        trainer_options: handed to Lightning.

    Raises:
        CellBusyError: another process has it.
        ScanFileError: the set cannot be made.
        ValueError: what lies in the cell's folder is of another plan.
    """
    folder = folder_of(plan, root)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        done = read_cell(plan, root)
        if done is not None:
            return done
        begun = time.monotonic()
        fit(prepare(plan, folder, trainer_options=trainer_options))
        record = judge_cell(plan, folder) | {"seconds": time.monotonic() - begun}
        _write_whole(folder / FIGURES, json.dumps(record, indent=1))
        (folder / f"{LAST}.ckpt").unlink(missing_ok=True)  # was for going on
    return record


def judge_cell(plan: LabelledPlan, folder: Path) -> Record:
    """Judge a trained cell's best checkpoint on the test frames of its split.

    Raises:
        CheckpointError: there is none.
    """
    task = load_task(read_checkpoint(folder / f"{BEST}.ckpt"))
    data = plan.open_data()
    split = split_set(data, plan.split)
    found = evaluate_set(predict_with(task.network), data, split.test, keep_px=kept_px(data))
    learned = history(folder)
    return {
        "plan": plan.as_record(),
        "epochs": plan.total_epochs,
        "frames": {part: len(getattr(split, part)) for part in split._fields},
        **figures_of(found),
        "cost": _cost(task, found, learned, len(split.train)),
        "history": learned,
        "environment": environment(),
    }


def history(folder: Path) -> Record:
    """Return what a run logged after each epoch: losses and errors on the validation frames, and when.

    A run that was stopped and went on logged to several files; its pauses do not count as time.
    """
    events: dict[int, Record] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        log = EventAccumulator(str(file)).Reload()
        if "val/loss" not in log.Tags()["scalars"]:
            continue
        times = [event.wall_time for event in log.Scalars("val/loss")]
        for loss, error, before in zip(
            log.Scalars("val/loss"), log.Scalars("val/phase_rms_rad"), [None, *times], strict=False
        ):
            seconds = None if before is None else loss.wall_time - before
            events[loss.step] = {"loss": loss.value, "phase_rms_rad": error.value, "seconds": seconds}
    return {
        key: [event[key] for _, event in sorted(events.items())]
        for key in ("loss", "phase_rms_rad", "seconds")
    }


def reconstruct_cell(cell: Reconstruction, root: Path) -> Record:
    """Reconstruct the test frames of a set iteratively, judge them like a network's, and return the record.

    Raises:
        ScanFileError: the set cannot be made.
        ValueError: it knows no probe or no truth.
    """
    file = root / cell.data / cell.split / f"{cell.engine}-{cell.iterations}.json"
    if file.is_file():
        done: Record = json.loads(file.read_text(encoding="utf-8"))
        return done
    data = open_set(cell.data)
    split = split_set(data, cell.split)
    painted, residual = paint_iteratively(data, split.test, cell.engine, cell.iterations)
    record = {
        "plan": {"data": cell.data, "split": cell.split, "method": cell.engine},
        "epochs": cell.iterations,
        "frames": {"test": len(split.test)},
        **figures_of(judge_painted(painted, data, split.test, keep_px=kept_px(data))),
        "forward_residual": residual,
        "cost": {"parameters": None, "macs": None, "frame_ms": _frame_ms(painted)},
        "environment": environment(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(file, json.dumps(record, indent=1))
    return record


def figures_of(found: Evaluation) -> Record:
    """Return what an evaluation found, as plain values."""
    mosaics = {"paper": _mosaic_record(found.paper), "circle": _mosaic_record(found.circle)}
    return {"tiles": as_json(found.tiles), "stitched": mosaics}


def kept_px(data: LabelledSet) -> int:
    """Return how much of each tile the paper's stitching uses."""
    return min(KEPT_PX, *data.tile_shape)


def _frame_ms(painted: Painted) -> float:
    return 1e3 * painted.seconds / len(painted.phase_rad)


def _mosaic_record(mosaic: JudgedMosaic) -> Record:
    return {
        **as_json(mosaic.figures),
        "bands": asdict(mosaic.spectrum.shares),
        "bands_of_truth": asdict(mosaic.truth_spectrum.shares),
    }


def _cost(task: ReconstructionTask, found: Evaluation, learned: Record, frames: int) -> Record:
    timed = sorted(seconds for seconds in learned["seconds"] if seconds is not None)
    epoch_s = timed[len(timed) // 2] if timed else None
    return {
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "macs": count_macs(task.network, task.config.network.frame_shape),
        "frame_ms": _frame_ms(found.painted),
        "epoch_s": epoch_s,
        "training_frames_per_s": frames / epoch_s if epoch_s else None,
    }


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the cell; the kernel lets go of it when the process ends, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CellBusyError(f"{folder}: another process trains this cell") from error
        yield


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
