"""`ptycholive bench`: how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from service.commands.flags import SHIPPED_SCAN, example
from service.errors import ConfigError


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
def bench(
    json_file: Path | None,
    bundle: str,
    scan: Path,
    threads: int,
    rounds: int,
    curve_file: Path | None,
    viewers: int | None,
    rate_hz: float,
    *,
    quick: bool,
    formats: bool,
) -> None:
    """Measure stage by stage and end to end, beside the peers, in one run; or one thing alone."""
    from service.benchmarking.curve import curve_svg
    from service.benchmarking.journey import Subject
    from service.benchmarking.load import load_curve
    from service.benchmarking.suite import QUICK, Effort, run_benchmark
    from service.format_rates import format_rates
    from service.viewers import measure_viewers

    for file in (json_file, curve_file):
        _check_writable(file)
    figures: dict[str, Any]
    effort = QUICK if quick else replace(Effort(), rounds=rounds)
    if formats:
        figures = {name: asdict(rates) for name, rates in format_rates(rounds, click.echo).items()}
    elif viewers is not None:
        figures = measure_viewers(scan, bundle, viewers, rounds, rate_hz, click.echo)
    elif curve_file is not None:
        figures = load_curve(Subject(scan, bundle, threads, effort.frames), effort.point_s, click.echo)
        curve_file.write_text(curve_svg(figures), encoding="utf-8")
    else:
        figures = run_benchmark(scan, bundle, threads, effort, click.echo)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _check_writable(file: Path | None) -> None:
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ConfigError(f"{file} cannot be written: is its folder there?")
