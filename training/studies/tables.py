"""What a study's cells say: means ± standard deviations over seeds, beside what the paper printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import ttest_ind

Record = dict[str, Any]
Key = tuple[str, str, str]

CONFIDENCE = 0.95
PUBLISHED_ABLATIONS: dict[
    str, tuple[float, float]
] = {  # arXiv 2604.26664, table V: amplitude and phase SSIM, %
    "paper": (85.69, 71.80),
    "no-dual-gain": (76.30, 66.19),
    "no-skip": (76.18, 66.21),
    "no-output-normalisation": (77.40, 64.38),
    "no-fusion-layer": (77.57, 65.49),
    "no-circular-representation": (59.63, 51.04),
    "three-gains": (81.48, 69.87),
    "no-circular-loss": (75.24, 53.20),
    "no-consistency": (77.66, 54.74),
    "no-ssim": (75.43, 65.19),
    "no-gradient": (76.83, 64.05),
    "mse-only": (76.57, 65.62),
    "mae-only": (77.89, 66.85),
}


class Column(NamedTuple):
    """One figure of a record.

    Attributes:
        title: with its unit.
        of: the figure, None where a method has none.
        digits: after the point.
    """

    title: str
    of: Callable[[Record], float | None]
    digits: int


class Verdict(NamedTuple):
    """Whether the full method is better than one without a part.

    Attributes:
        difference: of the means, full − without, in the figure's unit.
        low, high: of the difference's 95 % interval (Welch), None with a single seed.
        word: "confirmed", "not confirmed" or "within the spread"; "one seed" where none can be given.
    """

    difference: float
    low: float | None
    high: float | None
    word: str


Verdicts = dict[str, tuple[Verdict, Verdict]]


def _tile(
    quantity: str, figure: str, scale: float, data_range: Literal["truth", "fixed"] = "truth"
) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        ranges = record["tiles"][quantity]
        return None if ranges is None else scale * ranges[data_range][figure]["mean"]

    return of


def _image(stitching: str, quantity: str, figure: str, scale: float) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        ranges = record["stitched"][stitching][quantity]
        return None if ranges is None or ranges["truth"][figure] is None else scale * ranges["truth"][figure]

    return of


AMPLITUDE_SSIM = Column("tile A SSIM, %", _tile("amplitude", "ssim", 100), 2)
PHASE_SSIM = Column("tile φ SSIM, %", _tile("phase", "ssim", 100), 2)
COLUMNS = (
    Column("tile A MSE, 10⁻²", _tile("amplitude", "mse", 100), 2),
    Column("tile A PSNR, dB", _tile("amplitude", "psnr_db", 1), 2),
    AMPLITUDE_SSIM,
    Column("tile φ MSE, 10⁻²", _tile("phase", "mse", 100), 2),
    Column("tile φ PSNR, dB", _tile("phase", "psnr_db", 1), 2),
    PHASE_SSIM,
    Column("tile φ PSNR, object's range, dB", _tile("phase", "psnr_db", 1, "fixed"), 2),
    Column("tile φ SSIM, object's range, %", _tile("phase", "ssim", 100, "fixed"), 2),
    Column("stitched A PSNR, dB", _image("paper", "amplitude", "psnr_db", 1), 2),
    Column("stitched A SSIM, %", _image("paper", "amplitude", "ssim", 100), 2),
    Column("stitched φ PSNR, dB", _image("paper", "phase", "psnr_db", 1), 2),
    Column("stitched φ SSIM, %", _image("paper", "phase", "ssim", 100), 2),
    Column("tile φ error, circular, aligned, rad", lambda r: r["tiles"]["circular_rms_rad"]["mean"], 3),
    Column(
        "mosaic φ error, circular, aligned, rad", lambda r: r["stitched"]["circle"]["circular"]["rms_rad"], 3
    ),
    Column("ms a frame", lambda r: r["cost"]["frame_ms"], 2),
)


def key_of(record: Record) -> Key:
    """Return what the seeds of a cell have in common: set, split, method."""
    plan = record["plan"]
    return plan["data"], plan["split"], plan["method"]


def by_cell(records: Iterable[Record]) -> dict[Key, list[Record]]:
    """Group records that differ in their seed only, in the order in which they come."""
    order = list(dict.fromkeys(key_of(record) for record in records))
    ranked = sorted(records, key=lambda record: order.index(key_of(record)))
    return {key: list(group) for key, group in groupby(ranked, key_of)}


def verdict(full: list[float], without: list[float]) -> Verdict:
    """Compare the seeds of two cells by Welch's t interval."""
    difference = float(np.mean(full) - np.mean(without))
    if min(len(full), len(without)) < 2:
        return Verdict(difference, None, None, "one seed")
    interval = ttest_ind(full, without, equal_var=False).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    word = "confirmed" if low > 0 else "not confirmed" if high < 0 else "within the spread"
    return Verdict(difference, low, high, word)


def verdicts(records: list[Record]) -> Verdicts:
    """Say for each ablation whether the full method's amplitude and phase SSIM are better than without it."""
    cells = {key[2]: group for key, group in by_cell(records).items()}
    if "paper" not in cells:
        return {}
    return {
        method: (_compare(AMPLITUDE_SSIM, cells["paper"], group), _compare(PHASE_SSIM, cells["paper"], group))
        for method, group in cells.items()
        if method != "paper"
    }


def _compare(column: Column, full: list[Record], without: list[Record]) -> Verdict:
    return verdict(_values(column, full), _values(column, without))


def _values(column: Column, records: list[Record]) -> list[float]:
    return [value for record in records if (value := column.of(record)) is not None]


def study_table(records: list[Record], said: Verdicts) -> str:
    """Return the study as a Markdown table, a row a cell, and under it the verdicts."""
    titles = ["set", "split", "method", "seeds", "epochs", *(column.title for column in COLUMNS)]
    rows = [_row(key, group) for key, group in by_cell(records).items()]
    tables = [markdown_table(titles, rows)]
    if said:
        tables.append(_verdict_table(said))
    return "\n".join(tables)


def _row(key: Key, group: list[Record]) -> list[str]:
    figures = (mean_and_std(column, group) for column in COLUMNS)
    return [*key, str(len(group)), str(group[0]["epochs"] or "–"), *figures]


def mean_and_std(column: Column, group: list[Record]) -> str:
    """Return a figure of a cell's seeds, "–" where none has it."""
    values = _values(column, group)
    if not values:
        return "–"
    mean = f"{np.mean(values):.{column.digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{column.digits}f}" if len(values) > 1 else mean


def _verdict_table(said: Verdicts) -> str:
    titles = [
        "without",
        "Δ A SSIM here",
        "in the paper",
        "verdict",
        "Δ φ SSIM here",
        "in the paper",
        "verdict",
    ]
    return markdown_table(titles, [[method, *_verdict_cells(method, both)] for method, both in said.items()])


def _verdict_cells(method: str, both: tuple[Verdict, Verdict]) -> list[str]:
    cells: list[str] = []
    for one, full, without in zip(
        both, PUBLISHED_ABLATIONS["paper"], PUBLISHED_ABLATIONS[method], strict=True
    ):
        interval = "" if one.low is None else f" [{one.low:+.2f}, {one.high:+.2f}]"
        cells += [f"{one.difference:+.2f}{interval}", f"{full - without:+.2f}", one.word]
    return cells


def markdown_table(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; every row has a word a title."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
