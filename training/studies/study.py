"""Studies of published methods on labelled sets: grids of sets, splits and methods."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import click

from training.checkpoint import load_task, read_checkpoint
from training.datasets.labelled import LabelledSet
from training.datasets.sets import open_set
from training.datasets.splits import SplitName, split_set
from training.judging.evaluation import Evaluation, JudgedMosaic, Painted, evaluate_set, judge_painted
from training.judging.iterative import Engine
from training.judging.metrics import as_json
from training.judging.object_tiles import paint_iteratively
from training.judging.predictor import count_macs, predict_with
from training.labelled_plan import LabelledPlan
from training.methods import ABLATIONS, BASELINES
from training.plan import Precision
from training.provenance import environment
from training.run import BEST
from training.studies.cells import Cell, Record, history, read_record, seconds_between_looks, write_whole
from training.studies.tables import by_cell, study_table, verdicts
from training.task import ReconstructionTask

KEPT_PX = 48  # of each tile's middle in the paper's stitching; its synthetic tiles are smaller than that


@dataclass(frozen=True, slots=True)
class LabelledCell:
    """One training of a published method on a labelled set."""

    plan: LabelledPlan

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        plan = self.plan
        method = plan.method if plan.epochs is None else f"{plan.method}-{plan.epochs}"
        return Path(plan.data, plan.split, method, f"seed-{plan.seed}")

    @property
    def title(self) -> str:
        """What a person is told while it trains."""
        plan = self.plan
        return f"{plan.method} on {plan.data}, {plan.split}, seed {plan.seed}"

    def judge(self, trained: Path) -> Record:
        """Return the figures of the best checkpoint in a folder on the test frames of the split.

        Raises:
            CheckpointError: there is none.
        """
        return judge_cell(self.plan, trained)


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
        claims: whether the paper printed what each of the methods gives.
    """

    title: str
    sets: tuple[str, ...]
    splits: tuple[SplitName, ...]
    methods: tuple[str, ...]
    epochs: int | None = None
    fewer: tuple[tuple[str, int], ...] = ()
    engines: tuple[Engine, ...] = ()
    iterations: int = 50
    claims: bool = False

    @property
    def look(self) -> str:
        """After what a cell's validation frames are looked at."""
        return "epoch"

    def prepare(self, _: Path) -> None:
        """Do nothing: sets are made when they are opened."""

    def cells(self, _: Path, seeds: int, precision: Precision) -> list[Cell]:
        """Return the cells, all of one seed before those of the next."""
        return [LabelledCell(plan) for plan in self.plans(seeds, precision)]

    def reconstruct(self, root: Path) -> list[Record]:
        """Reconstruct the same test frames iteratively: minutes, so they are made whenever they lack."""
        records = []
        for cell in self.reconstructions():
            click.echo(f"{cell.engine} on {cell.data}, {cell.split}", err=True)
            records.append(reconstruct_cell(cell, root))
        return records

    def lines(self, records: list[Record]) -> dict[str, list[Record]]:
        """Return records by what a plot calls them."""
        return {
            f"{method} ({data}, {split})": group for (data, split, method), group in by_cell(records).items()
        }

    def mosaic_rad(self, record: Record) -> float:
        """Return a record's phase error of the mosaic on the circle, rad RMS."""
        error: float = record["stitched"]["circle"]["circular"]["rms_rad"]
        return error

    def table(self, records: list[Record]) -> str:
        """Return a row a cell, and where the paper printed claims, what became of them."""
        return study_table(records, verdicts(records) if self.claims else {})

    def reconstructions(self) -> list[Reconstruction]:
        """Return the iterative reconstructions that stand beside the cells, one of each set and split."""
        return [
            Reconstruction(data, split, engine, self.iterations)
            for data in self.sets
            for split in self.splits
            for engine in self.engines
        ]

    def plans(self, seeds: int, precision: Precision) -> list[LabelledPlan]:
        """Return what is trained, all of one seed before those of the next."""
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
        claims=True,
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
        "cost": cost_of(task, found.painted) | _pace(learned, len(split.train)),
        "history": learned,
        "environment": environment(),
    }


def reconstruct_cell(cell: Reconstruction, root: Path) -> Record:
    """Reconstruct the test frames of a set iteratively, judge them like a network's, and return the record.

    Raises:
        ScanFileError: the set cannot be made.
        ValueError: it knows no probe or no truth.
    """
    file = root / cell.data / cell.split / f"{cell.engine}-{cell.iterations}.json"
    done = read_record(file)
    if done is not None:
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
    write_whole(file, json.dumps(record, indent=1))
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


def cost_of(task: ReconstructionTask, painted: Painted) -> Record:
    """Return what a network costs: parameters, multiply-adds a frame, milliseconds a frame."""
    return {
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "macs": count_macs(task.network, task.config.network.frame_shape),
        "frame_ms": _frame_ms(painted),
    }


def _pace(learned: Record, frames: int) -> Record:
    epoch_s = seconds_between_looks(learned)
    return {"epoch_s": epoch_s, "training_frames_per_s": frames / epoch_s if epoch_s else None}
