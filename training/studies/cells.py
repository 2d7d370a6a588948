"""Cells of a study: each trained, judged and written down once, by whichever process has it."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.whole_files import written_whole
from training.plan import Precision
from training.run import LAST, Plan, fit, prepare

FIGURES = "figures.json"  # of a cell's folder; its being there says that the cell is done
Record = dict[str, Any]


class CellBusyError(Exception):
    """Another process works on this cell."""


class Cell(Protocol):
    """One training of a study, and how it is judged."""

    @property
    def plan(self) -> Plan:
        """Of the training."""
        ...

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        ...

    @property
    def title(self) -> str:
        """What a person is told while it trains."""
        ...

    def judge(self, trained: Path) -> Record:
        """Return the figures of the best checkpoint in a folder: plain values.

        Raises:
            CheckpointError: there is none.
        """
        ...


class Grid(Protocol):
    """A study: which cells it has, and what their records say."""

    @property
    def title(self) -> str:
        """What it asks."""
        ...

    @property
    def look(self) -> str:
        """After what a cell's validation frames are looked at."""
        ...

    def quick(self) -> Grid:
        """Return a small likeness: that it runs, not what is true."""
        ...

    def prepare(self, root: Path) -> None:
        """Put what all cells need into the study's folder.

        Raises:
            ScanFileError, ValueError: it cannot be made, or what lies there is of another study.
        """
        ...

    def cells(self, root: Path, seeds: int, precision: Precision) -> Sequence[Cell]:
        """Return the cells, all of one seed before those of the next."""
        ...

    def reconstruct(self, root: Path) -> list[Record]:
        """Return the records of iterative reconstructions that stand beside the cells."""
        ...

    def lines(self, records: list[Record]) -> dict[str, list[Record]]:
        """Return records by what a plot calls them; those of one name differ in their seed only."""
        ...

    def mosaic_rad(self, record: Record) -> float:
        """Return a record's phase error of the mosaic, rad RMS."""
        ...

    def table(self, records: list[Record]) -> str:
        """Return what the records say, in Markdown."""
        ...


def read_cell(cell: Cell, root: Path) -> Record | None:
    """Return a cell's record, None where it is not done yet."""
    return read_record(root / cell.folder / FIGURES)


def run_cell(cell: Cell, root: Path, trainer_options: dict[str, Any] | None = None) -> Record:
    """Train and judge a cell, or go on with it, and return its record.

    Args:
        cell: of the study.
        root: the study's folder.
        trainer_options: handed to Lightning.

    Raises:
        CellBusyError: another process has it.
        ScanFileError: its data cannot be made.
        ValueError: what lies in the cell's folder is of another plan.
    """
    folder = root / cell.folder
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        done = read_cell(cell, root)
        if done is not None:
            return done
        begun = time.monotonic()
        fit(prepare(cell.plan, folder, trainer_options=trainer_options))
        record = cell.judge(folder) | {"seconds": time.monotonic() - begun}
        write_whole(folder / FIGURES, json.dumps(record, indent=1))
        (folder / f"{LAST}.ckpt").unlink(missing_ok=True)  # was for going on
    return record


def history(folder: Path) -> Record:
    """Return what a run logged at each look: losses and errors on the validation frames, and when.

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


def seconds_between_looks(learned: Record) -> float | None:
    """Return the median time from one look at the validation frames to the next; None: it looked once."""
    timed = sorted(seconds for seconds in learned["seconds"] if seconds is not None)
    return timed[len(timed) // 2] if timed else None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a cell; the kernel lets go of it when the process ends, however it ends.

    Raises:
        CellBusyError: another process has it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CellBusyError(f"{folder}: another process trains this cell") from error
        yield


def read_record(file: Path) -> Record | None:
    """Return what `write_whole` wrote, None where there is nothing yet."""
    record: Record | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return record


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    write_bytes_whole(path, text.encode())


def write_array_whole(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file so that it is there whole or not at all."""
    stream = BytesIO()
    np.save(stream, array, allow_pickle=False)
    write_bytes_whole(path, stream.getvalue())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with written_whole(path) as half:
        half.write_bytes(content)
