"""`ptycholive report`: a scan as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from model.whole_files import written_whole
from service.commands.flags import example
from service.errors import ConfigError


@click.command(epilog=example("ptycholive report results/siemens_star_aps.h5 --out star.html"))
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: beside the result]")
def report(result: Path, out: Path | None) -> None:
    """Write a scan's result file as one page of HTML that opens anywhere, without a network."""
    from service.handover.result import read_result
    from service.handover.scan_report import scan_report

    page, target = scan_report(read_result(result)), out or result.with_suffix(".html")
    try:
        with written_whole(target) as half:
            half.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    click.echo(f"wrote {target}")
