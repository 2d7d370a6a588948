"""What every network of the instrument's study is judged on, whatever it knows or paints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from training.checkpoint import load_task, matching_tilts, read_checkpoint
from training.judging.families import Instrument, family_figures
from training.judging.held_out_scans import ScanSeries, stitched_figures
from training.judging.metrics import as_json
from training.judging.predictor import Predict, count_macs, predict_with
from training.plan import TrainingPlan
from training.provenance import environment
from training.run import BEST
from training.simulation.factory import SimulationRecipe
from training.simulation.probes import read_probe
from training.studies.cells import Record, history, seconds_between_looks
from training.task import ReconstructionTask

TIMED_FRAMES, TIMED_RUNS = 16, 5


@dataclass(frozen=True, slots=True)
class Bench:
    """What all networks are judged on.

    Attributes:
        probe: file with the modes that make the frames.
        tile_px: edge of the middle of a tile that is judged.
        recipe: of the frames that are judged singly.
        families: of the objects.
        tiles: of each family.
        series: scans of each family.
    """

    probe: Path
    tile_px: int
    recipe: SimulationRecipe
    families: tuple[str, ...]
    tiles: int
    series: ScanSeries


def judge_on_bench(plan: TrainingPlan, bench: Bench, trained: Path) -> Record:
    """Judge the best checkpoint in a folder as it would be exported: tiles, mosaics, cost.

    Raises:
        CheckpointError: there is none.
        ScanFileError: there is no probe.
    """
    task = load_task(matching_tilts(read_checkpoint(trained / f"{BEST}.ckpt"))).eval()
    predict, probe = predict_with(task.network), read_probe(bench.probe)
    instrument = Instrument(probe, (bench.tile_px, bench.tile_px))
    alike = replace(plan, recipe=bench.recipe)
    tiles = (family_figures(task, alike, family, bench.tiles, instrument) for family in bench.families)
    scans = (stitched_figures(predict, probe, family, bench.series) for family in bench.families)
    learned = history(trained)
    return {
        "plan": plan.as_record(),
        "tilts_matched": task.config.network.match_tilt,
        "tiles": [as_json(figures) for figures in tiles],
        "stitched": [as_json(figures) for family in scans for figures in family],
        "cost": _cost(task, predict, plan, learned),
        "history": learned,
        "environment": environment(),
    }


def _cost(task: ReconstructionTask, predict: Predict, plan: TrainingPlan, learned: Record) -> Record:
    shape = task.config.network.frame_shape
    between_s = seconds_between_looks(learned)
    frames = plan.steps_between_validations * plan.batch
    return {
        "parameters": sum(p.numel() for p in task.network.parameters()),
        "macs": count_macs(task.network, shape),
        "frame_ms": frame_ms(predict, shape),
        "training_frames_per_s": frames / between_s if between_s else None,
    }


def frame_ms(predict: Predict, frame_shape: tuple[int, int]) -> float:
    """Return what a network takes of one thread a frame, milliseconds: the best of a few batches.

    It is the processor's time, not the clock's: studies run for hours beside whatever else the machine does.
    """
    counts = np.ones((TIMED_FRAMES, 1, *frame_shape), np.float32)
    with _one_thread():
        predict(counts)  # the first run allocates
        return 1e3 * min(_seconds(predict, counts) for _ in range(TIMED_RUNS)) / TIMED_FRAMES


def _seconds(predict: Predict, counts: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    begun = time.process_time()
    predict(counts)
    return time.process_time() - begun


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
