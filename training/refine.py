"""`ptycholive refine`: the live mosaic starts an iterative engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import click
import numpy as np

from model.bundle import BundleError
from model.scans import ScanFileError, open_scan
from training.judging.engine_options import counted, engine_options, settings_of
from training.judging.iterative import IterativeResult, IterativeSettings, iterate
from training.judging.measured_frames import probe_of, read_start, scan_frames, write_labelled
from training.studies.plots import Points, plot_residuals


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """A scan reconstructed from its mosaic, and where asked for from an empty object too."""

    from_mosaic: IterativeResult
    from_empty: IterativeResult | None


def refine(
    path: Path,
    start: Path,
    out: Path | None,
    probe: str,
    modes: int | None,
    settings: IterativeSettings,
    compare: bool,
) -> Refined:
    """Reconstruct a scan from its mosaic.

    Args:
        path: of the scan.
        start: its result file.
        out: where the scan is written with the reconstruction beside it; None: nowhere.
        probe: see `probe_of`.
        modes: of the probe.
        settings: of the engine.
        compare: start from an empty object too.

    Raises:
        ScanFileError, BundleError: a file cannot be read or written.
        ValueError: they do not fit each other, or the engine diverged.
    """
    with open_scan(path) as scan:
        counts = scan.frames()
        lit = probe_of(probe, counts, scan.mask, modes)
        frames, pixel_m = scan_frames(scan, counts, lit, read_start(start))
        with counted("From the mosaic", settings.iterations) as progress:
            found = iterate(frames, settings, progress, checks=settings.iterations)
        if out is not None:
            method = f"{settings.engine} of pty-chi, {settings.iterations} iterations from {start.name}"
            write_labelled(out, scan, counts, found, pixel_m, method)
        if not compare:
            return Refined(found, None)
        empty = replace(frames, start=np.ones_like(frames.start))
        with counted("From an empty object", settings.iterations) as progress:
            return Refined(found, iterate(empty, settings, progress, checks=settings.iterations))


def reached(found: IterativeResult, residual: float) -> int | None:
    """Return after how many iterations a residual was reached, None where it was not."""
    return next((i for i, value in sorted(found.residuals.items()) if value <= residual), None)


def told(refined: Refined) -> Iterator[str]:
    """Return what came of it, a line each."""
    found, empty = refined.from_mosaic, refined.from_empty
    yield f"from the mosaic: {_in_words(found)}"
    if empty is None:
        return
    yield f"from an empty object: {_in_words(empty)}"
    yield f"{'from empty':>12}{'residual':>10}{'from the mosaic':>17}{'share':>7}"
    for iteration in _milestones(empty.iterations):
        yield _compared(found, empty, iteration)


def curves(refined: Refined) -> dict[str, Points]:
    """Return iterations and residuals after them, by where they start."""
    starts = {"from the mosaic": refined.from_mosaic, "from an empty object": refined.from_empty}
    return {
        name: (list(found.residuals), list(found.residuals.values()))
        for name, found in starts.items()
        if found is not None
    }


def _in_words(found: IterativeResult) -> str:
    last = found.iterations
    return (
        f"forward residual {found.residuals[0]:.4f}, {found.residuals[last]:.4f} after {last} iterations in "
        f"{found.seconds:.1f} s"
    )


def _milestones(last: int) -> Iterator[int]:
    """Return 1, 2, 5, 10, 20, 50 … and the last."""
    steps = (digit * 10**power for power in count() for digit in (1, 2, 5))
    yield from takewhile(lambda step: step < last, steps)
    yield last


def _compared(found: IterativeResult, empty: IterativeResult, iteration: int) -> str:
    """Return a row: an iteration takes the same time from both, so that its share is one of the time, too."""
    goal = empty.residuals[iteration]
    soon = reached(found, goal)
    least = f"{'not reached':>17}" if soon is None else f"{soon:>17}{soon / iteration:>7.0%}"
    return f"{iteration:>12}{goal:>10.4f}{least}"


@click.command(
    "refine",
    epilog="""\b
Example:
  ptycholive demo --once --out demo-results
  ptycholive refine siemens_star_aps.cxi --start demo-results/siemens_star_aps.h5 --compare \\
    --figure refine.svg""",
)
@click.argument("scan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--start",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Result file of the scan, whose object is the start: the refined one where there is one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Scan file to write, with the reconstruction beside the frames.",
)
@click.option("--compare", is_flag=True, help="Start from an empty object too, and tell the difference.")
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="SVG to draw: the residual after each iteration.",
)
@engine_options
def command(
    scan: Path,
    start: Path,
    out: Path | None,
    probe: str | None,
    compare: bool,
    figure: Path | None,
    modes: int | None,
    **options: Any,
) -> None:
    """Go on iteratively from a live mosaic (pty-chi)."""
    try:
        found = refine(scan, start, out, probe or str(scan), modes, settings_of(options), compare)
        if figure is not None:
            plot_residuals(curves(found), figure)
    except (BundleError, ScanFileError, ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    for line in told(found):
        click.echo(line)
