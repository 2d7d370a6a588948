"""`ptycholive ablate`: train the grids that check the paper's claims, and write what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
from lightning.fabric.utilities.exceptions import MisconfigurationException

from model.scans import ScanFileError
from training.checkpoint import CheckpointError
from training.plan import Precision
from training.studies.cells import Cell, CellBusyError, Grid, Record, read_cell, run_cell
from training.studies.chart import ChartStudy
from training.studies.instrument import STAR, InstrumentStudy
from training.studies.plots import plot_convergence, plot_cost
from training.studies.study import STUDIES
from training.train import legal_devices

GRIDS: dict[str, Grid] = {
    **STUDIES,
    "chart": ChartStudy(
        "The paper's chart by networks of its probe",
        ("usaf", "usaf-noisy"),
        ("disjoint",),
        ("paper",),
    ),
    "instrument": InstrumentStudy(),
}


@click.command(
    "ablate",
    epilog="""\b
Example:
  ptycholive ablate --study wrapping --quick --out runs/study      # a minute: shows that it runs
  ptycholive ablate --study all --out runs/study                   # many hours without a GPU
  ptycholive ablate --study instrument --probe siemens_star_aps.cxi --out runs/instrument
  ptycholive ablate --study instrument --only full --only paper --samples 64000 --out runs/instrument
A study that was stopped goes on; started twice, it shares its cells out over two processes.""",
)
@click.option(
    "--study",
    type=click.Choice([*GRIDS, "all"]),
    default="ablations",
    show_default=True,
    help="; ".join(f"{name}: {study.title.lower()}" for name, study in GRIDS.items()) + ".",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for cells and tables; cells that are done there are not done again.",
)
@click.option(
    "--probe",
    type=click.Path(path_type=Path, dir_okay=False),
    default=STAR,
    show_default=True,
    help="Of the instrument's study: scan file whose reference holds the probe, or a .npy with its modes.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=InstrumentStudy().samples,
    show_default=True,
    help="Of the instrument's study: simulated frames that each network learns from; --quick takes 64.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="VARIANT",
    help="Of the instrument's study: train this variant (full, paper, whole-frame...); may be given again.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Trainings of each cell."
)
@click.option(
    "--quick", is_flag=True, help="A corner of the chart, a few steps: that it runs, not what is true."
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
    study: str,
    out: Path,
    probe: Path,
    samples: int,
    only: tuple[str, ...],
    seeds: int,
    quick: bool,
    table_only: bool,
    precision: Precision,
    **trainer: Any,
) -> None:
    """Train every cell of a study that is not done yet, and write its table, verdicts and plots."""
    grids = GRIDS | {"instrument": InstrumentStudy(probe=probe, samples=samples, names=only or None)}
    for name in grids if study == "all" else [study]:
        grid = grids[name].quick() if quick else grids[name]
        try:
            records = run_study(grid, out, seeds, precision, None if table_only else trainer)
        except (ScanFileError, CheckpointError, MisconfigurationException, ValueError, OSError) as error:
            raise click.UsageError(" ".join(str(error).split())) from error
        if records:
            click.echo(write_study(name, grid, records, out))


def run_study(
    study: Grid, out: Path, seeds: int, precision: Precision, trainer: dict[str, Any] | None
) -> list[Record]:
    """Run the cells that are not done, unless `trainer` is None, and return the records of all that are.

    Raises:
        ScanFileError, CheckpointError, MisconfigurationException, ValueError: a cell cannot be trained.
    """
    cells = study.cells(out, seeds, precision)
    if trainer is not None:
        study.prepare(out)
        _train(cells, out, trainer)
    done = [record for cell in cells if (record := read_cell(cell, out)) is not None]
    return done + ([] if trainer is None and not done else study.reconstruct(out))


def _train(cells: Sequence[Cell], out: Path, trainer: dict[str, Any]) -> None:
    """Train the cells that are not done, but for those that another process has."""
    for number, cell in enumerate(cells, 1):
        if read_cell(cell, out):
            continue
        click.echo(f"[{number}/{len(cells)}] {cell.title}")
        try:
            run_cell(cell, out, trainer)
        except CellBusyError as busy:
            click.echo(str(busy))


def write_study(name: str, study: Grid, records: list[Record], out: Path) -> str:
    """Write records, table and plots of a study; return the table."""
    table = f"### {study.title}\n\n{study.table(records)}"
    lines = study.lines(records)
    (out / f"{name}.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    (out / f"{name}.md").write_text(table, encoding="utf-8")
    plot_convergence(lines, out / f"{name}-convergence.svg", study.look)
    plot_cost(lines, out / f"{name}-cost.svg", study.mosaic_rad)
    return table
