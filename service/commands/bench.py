"""`ptycholive bench`: how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands.flags import SHIPPED_SCAN, example
from service.errors import ConfigError

if TYPE_CHECKING:
    from service.benchmarking.suite import Effort


@click.command(
    epilog=example("ptycholive bench", "ptycholive bench --load load.svg", "ptycholive bench --viewers 10")
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--bundle", default="siemens-star", show_default=True, help="Model to measure.")
@click.option(
    "--scan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=SHIPPED_SCAN,
    help="Scan file to stream.  [default: the shipped one]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Of the engine and of its peers; 0: one a core.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Times each figure is taken; the median is told.",
)
@click.option("--quick", is_flag=True, help="Everything once with few frames, to see that it runs.")
@click.option(
    "--load",
    "curve_file",
    type=click.Path(path_type=Path),
    help="Measure only latency against load, a few minutes; draw the curve there as SVG.",
)
@click.option(
    "--viewers", type=click.IntRange(min=1), help="Measure only what so many viewers cost the stream."
)
@click.option(
    "--rate", "rate_hz", type=click.FloatRange(min=0), default=0.0, help="Frames a second for that; 0: all."
)
@click.option(
    "--formats",
    is_flag=True,
    help="Measure only how fast each stream format is received, decoded and joined.",
)
def bench(json_file: Path | None, curve_file: Path | None, **options: Any) -> None:
    """Measure stage by stage and end to end, beside the peers, in one run; or one thing alone."""
    for file in (json_file, curve_file):
        _check_writable(file)
    if options["formats"]:
        figures = _formats(**options)
    elif options["viewers"] is not None:
        figures = _viewers(**options)
    elif curve_file is not None:
        figures = _load(curve_file, **options)
    else:
        figures = _everything(**options)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _formats(rounds: int, **_: Any) -> dict[str, Any]:
    from service.benchmarking.formats import format_rates

    return {name: asdict(rates) for name, rates in format_rates(rounds, click.echo).items()}


def _viewers(scan: Path, bundle: str, viewers: int, rounds: int, rate_hz: float, **_: Any) -> dict[str, Any]:
    from service.benchmarking.viewers import measure_viewers

    return measure_viewers(scan, bundle, viewers, rounds, rate_hz, click.echo)


def _load(file: Path, scan: Path, bundle: str, threads: int, **options: Any) -> dict[str, Any]:
    from service.benchmarking.curve import curve_svg
    from service.benchmarking.journey import Subject
    from service.benchmarking.load import load_curve

    effort = _effort(**options)
    curve = load_curve(Subject(scan, bundle, threads, effort.frames), effort.point_s, click.echo)
    file.write_text(curve_svg(curve), encoding="utf-8")
    return curve


def _everything(scan: Path, bundle: str, threads: int, **options: Any) -> dict[str, Any]:
    from service.benchmarking.suite import run_benchmark

    return run_benchmark(scan, bundle, threads, _effort(**options), click.echo)


def _effort(rounds: int, *, quick: bool, **_: Any) -> Effort:
    from service.benchmarking.suite import QUICK, Effort

    return QUICK if quick else Effort(rounds=rounds)


def _check_writable(file: Path | None) -> None:
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ConfigError(f"{file} cannot be written: is its folder there?")
