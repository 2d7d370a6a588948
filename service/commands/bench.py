"""`ptycholive bench`: how fast it is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from service.commands.flags import SHIPPED_SCAN, example
from service.errors import ConfigError


@click.command(epilog=example("ptycholive bench", "ptycholive bench --json bench.json"))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--bundle", default="siemens-star", show_default=True, help="Model to measure.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Times each figure is taken; the median is told.",
)
def bench(json_file: Path | None, bundle: str, rounds: int) -> None:
    """Measure stage by stage and end to end, in one run."""
    from service.benchmark import run_benchmark

    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise ConfigError(f"{json_file} cannot be written: is its folder there?")
    figures = run_benchmark(SHIPPED_SCAN, bundle, rounds, click.echo)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
