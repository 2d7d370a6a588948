"""Ways to reconstruct a scan against time, and its mosaic beside each reconstruction in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.judging.against_time import Resemblance, Standing, TimedWay
from training.judging.metrics import as_json
from training.judging.stopwatch import Spent
from training.reporting import plots
from training.reporting.plots import Chart, Curve, Image
from training.reporting.report import Picture, Table

_SAME_FRAMES = (
    "The reference is itself an iterative reconstruction of these frames, with their noise and its own "
    "faults, which favours engines of its kind; beyond its own noise agreement means nothing."
)


def race_tables(ways: Sequence[TimedWay], pixel_m: float, threads: int) -> list[Table]:
    """Return when each way catches up with the network, and how good each was whenever it was stopped.

    Args:
        ways: the network first.
        pixel_m: of the object, metres.
        threads: of torch.
    """
    references = tuple(ways[0].standings[0].resemblances)
    header = ("way", "seconds", "processor s", "passes", "residual", *_headings(references))
    rows = [(way.name, *_stop_cells(at, pixel_m)) for way in ways for at in way.standings]
    note = (
        f"The same frames and machine, torch on {threads} thread{'s' * (threads > 1)}, NumPy's rPIE on one. "
        "The seconds are those of the work alone: no set-up, no judging; those of the processor are what one "
        "thread would take if nothing else ran. All are given the same probe and keep it, but for the way "
        "whose name says otherwise. "
    )
    return [_catching_up(ways), Table("Quality against time", header, rows, note + _SAME_FRAMES)]


def _stop_cells(at: Standing, pixel_m: float) -> tuple[str, ...]:
    spent = (f"{at.spent.wall_s:.1f}", f"{at.spent.processor_s:.1f}")
    return *spent, f"{at.passes}", f"{at.residual:.4f}", *_cells(at.resemblances, pixel_m)


def _catching_up(ways: Sequence[TimedWay]) -> Table:
    network = ways[0].standings[0]
    last = max(at.spent.wall_s for way in ways for at in way.standings)
    rows = []
    for way in ways[1:]:
        found = [
            next((at.spent for at in way.standings if _caught_up(at, network, name)), None)
            for name in _measures(network)
        ]
        rows.append((way.name, *(f"not in {last:.0f} s" if s is None else _seconds(s) for s in found)))
    return Table(
        f"Who is as good as the network, which took {_seconds(network.spent)}?",
        ("way", *_measures(network)),
        rows,
        "The first stop at which a way was at least as good; it may have been so a little earlier.",
    )


def _seconds(spent: Spent) -> str:
    return f"{spent.wall_s:.1f} s ({spent.processor_s:.1f} s of the processor)"


def _measures(network: Standing) -> tuple[str, ...]:
    return ("residual", *(f"phase corr., {name}" for name in network.resemblances))


def _caught_up(at: Standing, network: Standing, measure: str) -> bool:
    if measure == "residual":
        return at.residual <= network.residual
    name = measure.removeprefix("phase corr., ")
    ours, theirs = (standing.resemblances[name].likeness for standing in (network, at))
    return theirs.phase_correlation >= ours.phase_correlation


def beside_table(beside: Mapping[str, Mapping[str, Resemblance]], pixel_m: float) -> Table:
    """Return what is like which of the reconstructions in the file.

    Args:
        beside: object's name → reference's name → how much they are alike.
        pixel_m: of the object, metres.
    """
    references = tuple(next(iter(beside.values())))
    return Table(
        "Beside each reconstruction in the file",
        ("object", *_headings(references)),
        [(name, *_cells(alike, pixel_m)) for name, alike in beside.items()],
        "Reconstructions of the same frames by other choices: how little they agree among themselves is how "
        "little an agreement with one of them can tell.",
    )


def _headings(references: Sequence[str]) -> tuple[str, ...]:
    what = ("phase corr.", "phase RMS, rad", "half bit, nm")
    return tuple(f"{word}, {name}" for name in references for word in what)


def _cells(alike: Mapping[str, Resemblance], pixel_m: float) -> tuple[str, ...]:
    cells = []
    for at in alike.values():
        cells += [f"{at.likeness.phase_correlation:.4f}", f"{at.likeness.phase_rms_rad:.4f}"]
        cells += [f"{1e9 * pixel_m * at.half_bit_px:.3g}" if np.isfinite(at.half_bit_px) else "–"]
    return tuple(cells)


def race_pictures(ways: Sequence[TimedWay]) -> list[Picture]:
    """Return quality over seconds: the residual, and the phase's correlation with each reference.

    None where there was no race.
    """
    if not ways:
        return []
    pictures = [_picture("Forward residual", ways, [_residuals(way) for way in ways], "forward residual")]
    for name in ways[0].standings[0].resemblances:
        values = [_correlations(way, name) for way in ways]
        pictures.append(_picture(f"Phase correlation with {name}", ways, values, "phase correlation"))
    return pictures


def _residuals(way: TimedWay) -> list[float]:
    return [at.residual for at in way.standings]


def _correlations(way: TimedWay, name: str) -> list[float]:
    return [at.resemblances[name].likeness.phase_correlation for at in way.standings]


def _picture(title: str, ways: Sequence[TimedWay], values: Sequence[list[float]], what: str) -> Picture:
    curves = [
        Curve(way.name, _wall_s(way), np.array(found), dashed="step" in way.name, marker="o")
        for way, found in zip(ways, values, strict=True)
    ]
    drawn = plots.curves(curves, Chart("seconds of work", what, logarithmic_x=True))
    return Picture(f"{title} against time", _SAME_FRAMES, drawn.light, drawn.dark, wide=False)


def _wall_s(way: TimedWay) -> Image:
    return np.array([at.spent.wall_s for at in way.standings])


def race_figures(ways: Sequence[TimedWay]) -> list[dict[str, Any]]:
    """Return the same as plain values."""
    return [{"name": way.name, "stops": [_stop(at) for at in way.standings]} for way in ways]


def _stop(at: Standing) -> dict[str, Any]:
    return {
        "seconds": at.spent.wall_s,
        "processor_seconds": at.spent.processor_s,
        "passes": at.passes,
        "forward_residual": at.residual,
        "beside": {name: resemblance_figures(alike) for name, alike in at.resemblances.items()},
    }


def resemblance_figures(alike: Resemblance) -> dict[str, Any]:
    """Return how much an object is like a reference as plain values; no detail is None."""
    finite = alike.half_bit_px if np.isfinite(alike.half_bit_px) else None
    return {**as_json(alike.likeness), "half_bit_px": finite}
