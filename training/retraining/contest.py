"""A candidate beside the model that it would replace, on the same frames with the same probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.scans import open_scan
from training.datasets.part import Indices
from training.datasets.splits import layout_of_scan, split_layout
from training.judging.predictor import Predictor, open_model
from training.plan import read_reference
from training.progress import shown_of
from training.reporting.findings import judge_scan

TOLERANCE = 0.01  # of the parent's residual: so much worse a candidate may be


class Jury(NamedTuple):
    """Frames to judge by.

    Attributes:
        scan: file with a reference, whose probe models the frames.
        frames: (n,) their numbers.
        words: which of the scan's frames these are.
        decides: whether a candidate that is worse on them is refused, or only told about.
    """

    scan: Path
    frames: Indices
    words: str
    decides: bool = True


class Judged(NamedTuple):
    """What a model makes of some frames.

    Attributes:
        residual: forward residual of its mosaic by the measured frames.
        empty: that of no object.
        correlation: of the mosaic's phase with the reference's.
    """

    residual: float
    empty: float
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Bout:
    """Two models on the same frames.

    Attributes:
        name: of the frames.
        parent: None where there is no model to replace.
        candidate: the new model.
        decides: whether a candidate that is worse is refused.
    """

    name: str
    parent: Judged | None
    candidate: Judged
    decides: bool = True

    @property
    def limit(self) -> float:
        """Greatest residual with which the candidate is accepted: it also has to explain something."""
        if self.parent is None:
            return self.candidate.empty
        return min((1 + TOLERANCE) * self.parent.residual, self.candidate.empty)

    @property
    def accepted(self) -> bool:
        """Whether the candidate is no worse."""
        return self.candidate.residual <= self.limit

    @property
    def in_words(self) -> str:
        """What was found, in half a sentence."""
        before = "without a model before" if self.parent is None else f"{self.parent.residual:.4f} before"
        return (
            f"forward residual {self.candidate.residual:.4f} on {self.name} "
            f"({before}, no object {self.candidate.empty:.4f})"
        )


def jury_of_part(scan: Path, name: str, *, decides: bool = True) -> Jury:
    """Return the test part of a scan's disjoint split.

    Args:
        scan: file with a reference.
        name: that the scan is known by.
        decides: of the jury.

    Raises:
        ScanFileError: the scan cannot be read.
        ValueError: it is too small to be split.
    """
    with open_scan(scan) as file:
        frames = split_layout(layout_of_scan(file), "disjoint").test
    return Jury(scan, frames, f"the test part of {name}", decides)


def jury_of_scan(scan: Path, name: str) -> Jury:
    """Return all frames of a scan.

    Args:
        scan: file with a reference.
        name: that the scan is known by.

    Raises:
        ScanFileError: the scan cannot be read.
    """
    with open_scan(scan) as file:
        return Jury(scan, np.arange(len(file)), f"all of {name}")


def contend(juries: Sequence[Jury], parent: Path | None, candidate: Path) -> list[Bout]:
    """Judge a candidate, and the model that it would replace, on the same frames.

    Args:
        juries: the frames.
        parent: folder of a bundle; None: there is no model to beat.
        candidate: folder of a bundle.

    Raises:
        ScanFileError: a scan does not fit a model.
        BundleError: a bundle is damaged.
        ValueError: there is nothing to compare.
    """
    new, old = open_model(str(candidate)), None if parent is None else open_model(str(parent))
    return [
        Bout(
            name=jury.words,
            parent=None if old is None else _judged(jury, old, "parent"),
            candidate=_judged(jury, new, "candidate"),
            decides=jury.decides,
        )
        for jury in juries
    ]


def refusals(bouts: Sequence[Bout]) -> list[Bout]:
    """Return where the candidate is worse than may be."""
    return [bout for bout in bouts if bout.decides and not bout.accepted]


def _judged(jury: Jury, model: Predictor, role: str) -> Judged:
    """Judge by the labelled probe: a model's own may be what is wrong with it."""
    labelled = replace(model, probe=read_reference(jury.scan).probe)
    with open_scan(jury.scan) as scan:
        found = judge_scan(scan, labelled, frames=jury.frames, progress=shown_of(f"Judging the {role}"))
    alike = found.rivals[0].likeness
    return Judged(
        residual=found.residuals.mosaic,
        empty=found.residuals.empty,
        correlation=None if alike is None else alike.phase_correlation,
    )
