"""What each part of the probe-informed network is worth on objects that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from training.judging.held_out_scans import ScanSeries
from training.plan import Precision, TrainingPlan
from training.simulation.camera import CameraRecipe
from training.simulation.factory import SimulationRecipe
from training.simulation.objects import HELD_OUT
from training.simulation.probes import crop_far_field, read_probe
from training.studies.cells import Record, write_array_whole
from training.studies.instrument_judge import Bench, judge_on_bench
from training.studies.instrument_table import by_variant, held_out_rad, instrument_table

STAR = Path("service", "data", "siemens_star_aps.cxi")  # of a checkout
SHOWN = "polygons"  # a family that the networks learned from, judged on other objects of it


def variants(full: TrainingPlan, frame_px: int) -> dict[str, TrainingPlan]:
    """Return the trainings by name: the full network, one change each from it, and its rivals.

    All see as many frames, in batches as large. The paper's networks learn by their published schedule,
    stretched to the run, PtychoNN by the full network's: what a short trial of each found to be better.

    Args:
        full: all parts.
        frame_px: edge of a frame.
    """
    recipe = full.recipe
    paper = replace(full, kind="paper", schedule="published")
    one_exposure = replace(recipe, camera=CameraRecipe())
    return {
        "full": full,
        "four-meetings": replace(full, steps=4),
        "two-meetings": replace(full, steps=2),
        "one-meeting": replace(full, steps=1),
        "one-mode": replace(full, modes=1),
        "absolute-counts": replace(full, keep_exposure_out=False),
        "one-gain": replace(full, gain_exponents=full.gain_exponents[:1]),
        "no-likelihood": replace(full, likelihood=0.0),
        "no-spread": replace(full, spread=False),
        "no-ema": replace(full, ema=False),
        "half-width": replace(full, width=full.width // 2),
        "whole-frame": replace(full, tile_px=frame_px),
        "paper": paper,
        "paper-one-gain": replace(paper, gain_exponents=full.gain_exponents[:1]),
        "paper-one-exposure": replace(paper, recipe=one_exposure),
        "ptychonn": replace(full, method="ptychonn"),
    }


@dataclass(frozen=True, slots=True)
class InstrumentCell:
    """One training on simulated frames of the instrument.

    Attributes:
        variant: name in `variants`.
        plan: of the training.
        bench: what every variant is judged on.
        pixels: edge of a frame.
    """

    variant: str
    plan: TrainingPlan
    bench: Bench
    pixels: int

    @property
    def folder(self) -> Path:
        """Where it lies below the study's folder."""
        trained = f"{self.variant}-{self.plan.samples}"
        return Path(f"instrument-{self.pixels}", trained, f"seed-{self.plan.seed}")

    @property
    def title(self) -> str:
        """What a person is told while it trains."""
        return f"{self.variant}, {self.plan.samples:,} frames of {self.pixels} pixels, seed {self.plan.seed}"

    def judge(self, trained: Path) -> Record:
        """Return the figures of the best checkpoint in a folder.

        Raises:
            CheckpointError: there is none.
        """
        return {"variant": self.variant} | judge_on_bench(self.plan, self.bench, trained)


@dataclass(frozen=True, slots=True)
class InstrumentStudy:
    """The grid: every variant on frames of one instrument with the middle of its detector.

    Attributes:
        title: what it asks.
        probe: scan file whose reference holds the probe, or a .npy with its modes.
        pixels: edge of the detector's middle that is used.
        tile_px: edge of the tile, where the light is.
        width: of the full network.
        samples: frames that every network learns from.
        batch: frames a step.
        validations: how often held-out frames are looked at.
        recipe: of the frames; objects are as many frames wide as at the whole detector.
        names: of the variants that are trained; None: all.
        tiles: of each family that are judged singly.
        series: scans of each family that are stitched.
    """

    title: str = "What each part of the probe-informed network is worth"
    probe: Path = STAR
    pixels: int = 64
    tile_px: int = 40
    width: int = 32
    samples: int = 16_000
    batch: int = 32
    validations: int = 10
    recipe: SimulationRecipe = field(default_factory=lambda: SimulationRecipe(object_size=160))
    names: tuple[str, ...] | None = None
    tiles: int = 128
    series: ScanSeries = field(default_factory=ScanSeries)

    @property
    def look(self) -> str:
        """After what a cell's validation frames are looked at."""
        return f"look, {self.validations} over {self.samples:,} frames"

    def quick(self) -> InstrumentStudy:
        """Return three variants on a small corner of the detector, a few steps each: that it runs."""
        return replace(
            self,
            pixels=16,
            tile_px=16,
            width=8,
            samples=64,
            batch=8,
            validations=1,
            recipe=SimulationRecipe(object_size=40, pool_objects=4),
            names=self.names or ("full", "paper", "ptychonn"),
            tiles=8,
            series=ScanSeries(objects=1, frames=9),
        )

    def prepare(self, root: Path) -> None:
        """Write the probe of the smaller detector into the study's folder.

        Raises:
            ScanFileError: there is no probe to read.
            ValueError: the detector is smaller than that, or the folder holds the study of another probe.
        """
        probe = crop_far_field(read_probe(self.probe), self.pixels)
        file = self._probe_file(root)
        if file.is_file() and not np.allclose(read_probe(file), probe):
            raise ValueError(f"{root} holds the study of another probe than {self.probe}: give another --out")
        root.mkdir(parents=True, exist_ok=True)
        write_array_whole(file, probe)

    def cells(self, root: Path, seeds: int, precision: Precision) -> list[InstrumentCell]:
        """Return the cells, all of one seed before those of the next.

        Raises:
            ValueError: there is no variant of one of the names.
        """
        bench = Bench(
            self._probe_file(root), self.tile_px, self.recipe, (*HELD_OUT, SHOWN), self.tiles, self.series
        )
        return [
            InstrumentCell(name, plan, bench, self.pixels)
            for seed in range(1, seeds + 1)
            for name, plan in self._plans(root, seed, precision)
        ]

    def reconstruct(self, _: Path) -> list[Record]:
        """Return nothing: no iterative reconstruction stands beside these cells."""
        return []

    def lines(self, records: list[Record]) -> dict[str, list[Record]]:
        """Return records by what a plot calls them."""
        return by_variant(records)

    def mosaic_rad(self, record: Record) -> float:
        """Return a record's phase error of the mosaics of held-out families, rad RMS."""
        return held_out_rad(record)

    def table(self, records: list[Record]) -> str:
        """Return a row a variant, and how the full network stands to its rivals."""
        return instrument_table(records)

    def _plans(self, root: Path, seed: int, precision: Precision) -> Iterator[tuple[str, TrainingPlan]]:
        full = TrainingPlan(
            self._probe_file(root),
            tile_px=self.tile_px,
            width=self.width,
            steps=3,
            samples=self.samples,
            batch=self.batch,
            precision=precision,
            seed=seed,
            validations=self.validations,
            recipe=self.recipe,
        )
        every = variants(full, self.pixels)
        if unknown := set(self.names or ()) - set(every):
            raise ValueError(f"there is no variant {', '.join(sorted(unknown))}: {', '.join(every)}")
        return ((name, every[name]) for name in self.names or every)

    def _probe_file(self, root: Path) -> Path:
        return root / f"probe-{self.pixels}.npy"
