"""`ptycholive tiled`: results to a Tiled server."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.flags import example


@click.command(epilog=example("ptycholive tiled results/*.h5 --url http://127.0.0.1:8000"))
@click.argument("results", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--url", required=True, help="Of the server, or of a container on it.")
@click.option("--key", envvar="PTYCHOLIVE_TILED_KEY", help="API key of the server.")
def tiled(results: tuple[Path, ...], url: str, key: str | None) -> None:
    """Write result files to a Tiled server, as `serve --tiled URL` does with each when it is there."""
    from service.handover.tiled_results import send_result

    for result in results:
        click.echo(f"{result}: {url} has it as {send_result(url, key, result)}")
