"""The paper's chart, painted by networks of its probe that learned from simulated frames.

Some saw random objects only; others windows of the part of the chart that the paper's network learns from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.checkpoint import load_task, read_checkpoint
from training.datasets.labelled import LabelledSet
from training.datasets.sets import open_set
from training.datasets.splits import SplitName, object_pixels, split_set
from training.judging.evaluation import judge_painted
from training.judging.object_tiles import known_physics, paint_physically
from training.judging.predictor import predict_with
from training.plan import Precision, TrainingPlan
from training.provenance import environment
from training.run import BEST
from training.simulation.camera import CameraRecipe
from training.simulation.factory import SimulationRecipe
from training.studies.cells import Cell, Record, history, seconds_between_looks, write_array_whole
from training.studies.study import Study, cost_of, figures_of, kept_px

FROM_RANDOM = "probe-informed, random objects"
FROM_KNOWN = "probe-informed, the training part's object"
KNOWN_LIKELIHOOD = 0.2
UNIFORM = CameraRecipe()  # of the set, whose frames have one exposure


@dataclass(frozen=True, slots=True)
class SimulatedCell:
    """One training on simulated frames of a set's probe.

    Attributes:
        plan: of the training.
        data, split: whose test frames it is judged on; nothing of them is learned from.
    """

    plan: TrainingPlan
    data: str
    split: SplitName

    @property
    def method(self) -> str:
        """What a table calls it."""
        return FROM_RANDOM if self.plan.recipe.objects.known is None else FROM_KNOWN

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        kind = "simulated" if self.method == FROM_RANDOM else "known"
        return Path(self.data, self.split, f"{kind}-{self.plan.samples}", f"seed-{self.plan.seed}")

    @property
    def title(self) -> str:
        """What a person is told while it trains."""
        return f"{self.method}, judged on {self.data}, {self.split}, seed {self.plan.seed}"

    def judge(self, trained: Path) -> Record:
        """Return the figures of the best checkpoint in a folder, as of a published method's cell.

        Raises:
            CheckpointError: there is none.
            ValueError: the set has no probe or no truth.
        """
        task = load_task(read_checkpoint(trained / f"{BEST}.ckpt")).eval()
        data = open_set(self.data)
        test = split_set(data, self.split).test
        painted = paint_physically(predict_with(task.network), data, test)
        learned = history(trained)
        rate_s = seconds_between_looks(learned)
        frames = self.plan.steps_between_validations * self.plan.batch
        return {
            "plan": self.plan.as_record() | {"data": self.data, "split": self.split, "method": self.method},
            "epochs": None,
            "frames": {"train": self.plan.samples, "test": len(test)},
            **figures_of(judge_painted(painted, data, test, keep_px=kept_px(data))),
            "cost": cost_of(task, painted) | {"training_frames_per_s": frames / rate_s if rate_s else None},
            "history": learned,
            "environment": environment(),
        }


@dataclass(frozen=True, slots=True)
class ChartStudy(Study):
    """A study with two more rows a set: networks of the set's probe that learned from simulated frames.

    Attributes:
        samples: frames that they learn from.
        recipe: of them; objects are as many frames wide as the instrument's.
    """

    samples: int = 80_000
    recipe: SimulationRecipe = field(default_factory=lambda: SimulationRecipe(object_size=80))

    def quick(self) -> ChartStudy:
        """Return the same grid on a corner of the chart and a few steps: that it runs, not what is true."""
        small = Study.quick(self)
        recipe = replace(self.recipe, pool_objects=4, object_size=40)
        return replace(self, sets=small.sets, epochs=1, fewer=(), samples=64, recipe=recipe)

    def prepare(self, root: Path) -> None:
        """Write the sets' probes, and the objects of their training parts, into the study's folder.

        Raises:
            ScanFileError: a set cannot be made.
            ValueError: it knows no probe.
        """
        root.mkdir(parents=True, exist_ok=True)
        for name in self.sets:
            data = open_set(name)
            write_array_whole(_probe_file(root, name), known_physics(data)[0])
            for split in self.splits:
                write_array_whole(_object_file(root, name, split), training_part(data, split))

    def cells(self, root: Path, seeds: int, precision: Precision) -> list[Cell]:
        """Return the cells of the published methods, then those of the networks of the probe."""
        simulated = self._simulated(root, seeds, precision)
        return [*Study.cells(self, root, seeds, precision), *simulated]

    def _simulated(self, root: Path, seeds: int, precision: Precision) -> Iterator[SimulatedCell]:
        for seed in range(1, seeds + 1):
            for data in self.sets:
                plan = TrainingPlan(
                    _probe_file(root, data),
                    tile_px=32,
                    steps=3,
                    samples=self.samples,
                    precision=precision,
                    seed=seed,
                    likelihood=0.0,  # the light fills the frame: twice as many unknowns as counts fit noise
                    validations=20,
                    recipe=self.recipe,
                )
                for split in self.splits:
                    yield SimulatedCell(plan, data, split)
                    yield SimulatedCell(self._of_known(plan, _object_file(root, data, split)), data, split)

    def _of_known(self, plan: TrainingPlan, known: Path) -> TrainingPlan:
        """Return a plan with windows of a known object in place of all random ones."""
        objects = replace(self.recipe.objects, known=str(known), known_share=1.0)
        recipe = replace(self.recipe, objects=objects, camera=UNIFORM)
        return replace(plan, likelihood=KNOWN_LIKELIHOOD, recipe=recipe)


def training_part(data: LabelledSet, split: SplitName) -> NDArray[np.complex64]:
    """Return the true transmission (Y, X) of the box that the training frames of a split see.

    Raises:
        ValueError: probe or truth is not known, or the set is too small for the split.
    """
    _, truth = known_physics(data)
    held = object_pixels(data, split_set(data, split).train)
    rows, columns = np.nonzero(held)
    return truth[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _probe_file(root: Path, data: str) -> Path:
    return root / f"probe-{data}.npy"


def _object_file(root: Path, data: str, split: SplitName) -> Path:
    return root / f"object-{data}-{split}.npy"
