"""What the instrument's study says: errors and cost of each variant, ours beside their rivals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from training.judging.held_out_scans import SWEEPS
from training.simulation.objects import HELD_OUT
from training.studies.cells import Record
from training.studies.tables import Column, markdown_table, mean_and_std

FULL, WHOLE, PAPER = "full", "whole-frame", "paper"
OURS = (FULL, WHOLE)
RIVALS = (PAPER, "paper-one-gain", "paper-one-exposure", "ptychonn")
CLAIM = 1 / 3  # of the paper's network's phase error, at no more cost a frame


class Standing(NamedTuple):
    """One of our networks beside a rival.

    Attributes:
        ratio: of the phase errors of held-out objects' mosaics, ours / rival, of the means over seeds.
        low, high: least and greatest ratio of any two seeds.
        macs, frame_ms: of the costs a frame.
        refined: of the errors, ours after refinement / rival as it painted.
        refined_ms: of the times a frame, our network's with that of its refinement.
        both_refined: of the errors, both after refinement.
        word: "confirmed" where even `high` is at most a third, "not confirmed" where even `low` is above,
            "within the spread" between; "one seed" where there is no spread.
    """

    ratio: float
    low: float
    high: float
    macs: float
    frame_ms: float
    refined: float
    refined_ms: float
    both_refined: float
    word: str


def by_variant(records: list[Record]) -> dict[str, list[Record]]:
    """Group records that differ in their seed only, in the order in which they come."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["variant"], []).append(record)
    return groups


def held_out_rad(record: Record, exposure: float = 1.0, figure: str = "phase_rms_rad") -> float:
    """Return the mean error of the mosaics of families that were not shown in training.

    Args:
        record: of a cell.
        exposure: of the scans, in units of the probe's.
        figure: of training.judging.held_out_scans.StitchedFigures.
    """
    rows = (_scans(record, family, exposure) for family in HELD_OUT)
    return float(np.mean([error for row in rows for error in row[figure]]))


def standing(network: list[Record], rival: list[Record]) -> Standing:
    """Compare a network of ours with a rival, each of any number of seeds."""
    ours, theirs = ([held_out_rad(record) for record in group] for group in (network, rival))
    pairs = [a / b for a, b in product(ours, theirs)]
    low, high = min(pairs), max(pairs)
    word = "confirmed" if high <= CLAIM else "not confirmed" if low > CLAIM else "within the spread"
    return Standing(
        ratio=float(np.mean(ours) / np.mean(theirs)),
        low=low,
        high=high,
        macs=_cost(network, "macs") / _cost(rival, "macs"),
        frame_ms=_cost(network, "frame_ms") / _cost(rival, "frame_ms"),
        refined=_refined_rad(network) / float(np.mean(theirs)),
        refined_ms=(_cost(network, "frame_ms") + _refinement_ms(network)) / _cost(rival, "frame_ms"),
        both_refined=_refined_rad(network) / _refined_rad(rival),
        word=word if min(len(network), len(rival)) > 1 else "one seed",
    )


def instrument_table(records: list[Record]) -> str:
    """Return the variants as a Markdown table, and under it how ours stand to their rivals."""
    groups = by_variant(records)
    columns = _columns(records[0])
    titles = ["variant", "seeds", *(column.title for column in columns), "φ of the paper's"]
    rows = [
        [name, str(len(group)), *(mean_and_std(c, group) for c in columns), _of_paper(group, groups)]
        for name, group in groups.items()
    ]
    return "\n".join([markdown_table(titles, rows), _flat(records[0]), *_standings(groups)])


def _flat(record: Record) -> str:
    error_rad = held_out_rad(record, figure="flat_phase_rms_rad")
    refined_rad = held_out_rad(record, figure="refined_flat_phase_rms_rad")
    return (
        f"A flat object, nothing painted, is {error_rad:.3f} rad off where objects were not shown, and "
        f"{refined_rad:.3f} rad after {SWEEPS} sweeps of refinement.\n"
    )


def _columns(record: Record) -> list[Column]:
    families = [row["family"] for row in record["tiles"]]
    shown = [family for family in families if family not in HELD_OUT]
    held_out = " and ".join(family for family in families if family in HELD_OUT)
    return [
        *(Column(f"tile φ, {family}, rad", _tile(family), 3) for family in families),
        *(Column(f"mosaic φ, {family} (shown), rad", _mosaic(family), 3) for family in shown),
        Column(f"mosaic φ, {held_out}, rad", held_out_rad, 3),
        Column("same at half the exposure", lambda r: held_out_rad(r, 0.5), 3),
        Column("same at twice the exposure", lambda r: held_out_rad(r, 2.0), 3),
        Column("same, tiles not turned", lambda r: held_out_rad(r, figure="unturned_phase_rms_rad"), 3),
        Column(
            f"same, {SWEEPS} sweeps of refinement",
            lambda r: held_out_rad(r, figure="refined_phase_rms_rad"),
            3,
        ),
        Column(f"mosaic A, {held_out}", lambda r: held_out_rad(r, figure="amplitude_rms"), 3),
        Column("parameters, 10³", lambda r: r["cost"]["parameters"] / 1e3, 0),
        Column("million multiplications a frame", lambda r: r["cost"]["macs"] / 1e6, 0),
        Column("ms a frame, one thread", lambda r: r["cost"]["frame_ms"], 2),
        Column("ms a frame, the sweeps", lambda r: _refinement_ms([r]), 2),
        Column("frames/s in training", lambda r: r["cost"]["training_frames_per_s"], 0),
    ]


def _tile(family: str) -> Callable[[Record], float]:
    def of(record: Record) -> float:
        (row,) = (row for row in record["tiles"] if row["family"] == family)
        mean: float = row["phase_rms_rad"]["mean"]
        return mean

    return of


def _mosaic(family: str) -> Callable[[Record], float]:
    return lambda record: float(np.mean(_scans(record, family, 1.0)["phase_rms_rad"]))


def _scans(record: Record, family: str, exposure: float) -> dict[str, Any]:
    (row,) = (row for row in record["stitched"] if row["family"] == family and row["exposure"] == exposure)
    return dict(row)


def _of_paper(group: list[Record], groups: dict[str, list[Record]]) -> str:
    if PAPER not in groups:
        return "–"
    return f"{standing(group, groups[PAPER]).ratio:.2f}"


def _standings(groups: dict[str, list[Record]]) -> list[str]:
    pairs = [(ours, rival) for ours in OURS for rival in RIVALS if {ours, rival} <= set(groups)]
    titles = [
        "ours / rival",
        "mosaic φ",
        "of any two seeds",
        "multiplications",
        "time",
        "at most a third",
        "ours refined / rival",
        "time",
        "both refined",
    ]
    rows = [_standing_row(pair, standing(groups[pair[0]], groups[pair[1]])) for pair in pairs]
    return [markdown_table(titles, rows)] if rows else []


def _standing_row(pair: tuple[str, str], found: Standing) -> list[str]:
    return [
        " / ".join(pair),
        f"{found.ratio:.2f}",
        f"{found.low:.2f}…{found.high:.2f}",
        f"{found.macs:.2f}",
        f"{found.frame_ms:.2f}",
        found.word,
        f"{found.refined:.2f}",
        f"{found.refined_ms:.2f}",
        f"{found.both_refined:.2f}",
    ]


def _refined_rad(group: list[Record]) -> float:
    return float(np.mean([held_out_rad(record, figure="refined_phase_rms_rad") for record in group]))


def _refinement_ms(group: list[Record]) -> float:
    """Return what all sweeps take of the processor, milliseconds a frame."""
    return SWEEPS * float(np.mean([min(row["sweep_ms"] for row in r["stitched"]) for r in group]))


def _cost(group: list[Record], figure: str) -> float:
    return float(np.mean([record["cost"][figure] for record in group]))
