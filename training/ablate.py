"""`ptycholive ablate`: train the grids that check the paper's claims, and write what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import click
from lightning.fabric.utilities.exceptions import MisconfigurationException

from model.scans import ScanFileError
from training.checkpoint import CheckpointError
from training.plan import Precision
from training.studies.plots import plot_convergence, plot_cost
from training.studies.study import (
    STUDIES,
    CellBusyError,
    Record,
    Study,
    read_cell,
    reconstruct_cell,
    run_cell,
)
from training.studies.tables import Verdicts, study_table, verdicts
from training.train import legal_devices


@click.command(
    "ablate",
    epilog="""\b
Example:
  ptycholive ablate --study wrapping --quick --out runs/study      # a minute: shows that it runs
  ptycholive ablate --study all --out runs/study                   # many hours without a GPU
A study that was stopped goes on; started twice, it shares its cells out over two processes.""",
)
@click.option(
    "--study",
    type=click.Choice([*STUDIES, "all"]),
    default="ablations",
    show_default=True,
    help="; ".join(f"{name}: {study.title.lower()}" for name, study in STUDIES.items()) + ".",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for cells and tables; cells that are done there are not done again.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each cell."
)
@click.option(
    "--quick", is_flag=True, help="A corner of the chart, one epoch: that it runs, not what is true."
)
@click.option(
    "--table-only", is_flag=True, help="Train nothing: write the tables of the cells that are done."
)
@click.option("--precision", type=click.Choice(get_args(Precision)), default="32-true", show_default=True)
@click.option(
    "--devices", callback=legal_devices, default="auto", show_default=True, help="Handed to Lightning."
)
@click.option(
    "--num-nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Handed to Lightning."
)
def command(
    study: str, out: Path, seeds: int, quick: bool, table_only: bool, precision: Precision, **trainer: Any
) -> None:
    """Train every cell of a study that is not done yet, and write its table, verdicts and plots."""
    for name in STUDIES if study == "all" else [study]:
        grid = STUDIES[name].quick() if quick else STUDIES[name]
        try:
            records = run_study(grid, out, seeds, precision, None if table_only else trainer)
        except (ScanFileError, CheckpointError, MisconfigurationException, ValueError, OSError) as error:
            raise click.UsageError(" ".join(str(error).split())) from error
        if records:
            click.echo(write_study(name, grid, records, out))


def run_study(
    study: Study, out: Path, seeds: int, precision: Precision, trainer: dict[str, Any] | None
) -> list[Record]:
    """Run the cells that are not done, unless `trainer` is None, and return the records of all that are.

    Raises:
        ScanFileError, CheckpointError, MisconfigurationException, ValueError: a cell cannot be trained.
    """
    plans = study.plans(seeds, precision)
    for number, plan in enumerate(plans, 1):
        if trainer is None or read_cell(plan, out):
            continue
        click.echo(f"[{number}/{len(plans)}] {plan.method} on {plan.data}, {plan.split}, seed {plan.seed}")
        try:
            run_cell(plan, out, trainer)
        except CellBusyError as busy:
            click.echo(str(busy))
    done = [record for plan in plans if (record := read_cell(plan, out)) is not None]
    return done + ([] if trainer is None and not done else _reconstructions(study, out))


def _reconstructions(study: Study, out: Path) -> list[Record]:
    """Reconstruct the same test frames iteratively: minutes, so they are made whenever they lack."""
    records = []
    for cell in study.reconstructions():
        click.echo(f"{cell.engine} on {cell.data}, {cell.split}", err=True)
        records.append(reconstruct_cell(cell, out))
    return records


def write_study(name: str, study: Study, records: list[Record], out: Path) -> str:
    """Write records, table and plots of a study; return the table."""
    said: Verdicts = verdicts(records) if name == "ablations" else {}
    table = f"### {study.title}\n\n{study_table(records, said)}"
    (out / f"{name}.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    (out / f"{name}.md").write_text(table, encoding="utf-8")
    plot_convergence(records, out / f"{name}-convergence.svg")
    plot_cost(records, out / f"{name}-cost.svg")
    return table
