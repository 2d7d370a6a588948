"""`ptycholive bench`: how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.commands.flags import SHIPPED_SCAN, example
from service.errors import ConfigError


@click.command(epilog=example("ptycholive bench", "ptycholive bench --viewers 10 --rounds 3"))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--bundle", default="siemens-star", show_default=True, help="Model to measure.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Times each figure is taken; the median is told.",
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
    json_file: Path | None, bundle: str, rounds: int, viewers: int | None, rate_hz: float, *, formats: bool
) -> None:
    """Measure stage by stage and end to end, in one run; or what viewers cost."""
    from service.benchmark import run_benchmark
    from service.format_rates import format_rates
    from service.viewers import measure_viewers

    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise ConfigError(f"{json_file} cannot be written: is its folder there?")
    figures: dict[str, Any]
    if formats:
        figures = {name: asdict(rates) for name, rates in format_rates(rounds, click.echo).items()}
    elif viewers is None:
        figures = run_benchmark(SHIPPED_SCAN, bundle, rounds, click.echo)
    else:
        figures = measure_viewers(SHIPPED_SCAN, bundle, viewers, rounds, rate_hz, click.echo)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
