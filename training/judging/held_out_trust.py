"""A model on simulated scans of unseen objects: what foretells its errors, and what stitching gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from training.judging.evaluation import Progress, find_trust, paint, silent
from training.judging.foretelling import Foretold, foretell
from training.judging.held_out_scans import KEPT_COVERAGE, ScanSeries, held_out_scan
from training.judging.painted_scan import painted_scan
from training.judging.predictor import Predictor
from training.judging.stitching_gains import StitchingWay, stitching_ways, sweeping
from training.simulation.objects import EVERY_FAMILY

SERIES = ScanSeries(frames=100, exposures=(0.5, 1.0, 2.0))  # faint frames are hard, strong ones easy


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutScan:
    """What was found on one simulated scan.

    Attributes:
        family: of its object, name in `EVERY_FAMILY`.
        shown: whether the model learned from objects of that family.
        exposure: in units of the probe's.
        foretold: its errors, and what was said of them.
        ways: of stitching it.
    """

    family: str
    shown: bool
    exposure: float
    foretold: Foretold
    ways: tuple[StitchingWay, ...]


def judge_held_out(
    model: Predictor,
    objects: int,
    progress: Progress = silent,
    families: Sequence[str] = tuple(EVERY_FAMILY),
    series: ScanSeries = SERIES,
) -> Iterator[HeldOutScan]:
    """Judge a model on simulated scans with its own probe, object by object.

    Args:
        model: that knows its probe.
        objects: of each family; the exposures take turns.
        progress: told of scans judged.
        families: names in `EVERY_FAMILY`.
        series: how the scans are taken.

    Raises:
        ValueError: the model knows no probe.
    """
    if not objects:
        return
    if model.probe is None:
        raise ValueError(f"{model.name} knows no probe to simulate scans with: give it a measured scan")
    trust = find_trust(model, progress)
    with progress("simulated scans", objects * len(families)) as advance:
        for k, (i, family) in product(range(objects), enumerate(families)):
            exposure = series.exposures[(i + k) % len(series.exposures)]
            counts, truth = held_out_scan(model.probe, family, k, exposure, series)
            lit = np.asarray(truth.coverage > KEPT_COVERAGE * truth.coverage.max())
            scan = painted_scan(paint(model.fullest, counts), counts, truth, lit)
            shown = family not in model.not_shown
            refine = sweeping(counts, truth.positions_px[: len(counts)], truth.probe)
            yield HeldOutScan(family, shown, exposure, foretell(scan, trust), stitching_ways(scan, refine))
            advance(1)
