"""`ptycholive serve`: the service."""

from __future__ import annotations

import signal
import sys

import click

from service.commands.flags import example, with_settings
from service.config import Settings


@click.command(
    epilog=example("ptycholive serve --images tcp://detector:31001 --positions tcp://127.0.0.1:5556")
)
@with_settings
def serve(settings: Settings) -> None:
    """Run the service: streams in, mosaic, page, metrics and result files out.

    Every flag can also be set in the file, or in the environment as PTYCHOLIVE_<NAME>.
    """
    from service.serving import serving  # the engine is loaded only when it is needed

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serving(settings) as (app, web):
        click.echo(f"page: {web.url}")
        for intake in app.intakes:
            click.echo(f"{intake.role}: {intake.stream_format} from {intake.source.endpoint}")
        if app.tiles_endpoint is not None:
            click.echo(f"publishing tiles at {app.tiles_endpoint}")
        click.echo(
            f"model: {app.engine.bundle.description.name} on {app.engine.backend}, {app.engine.device}"
        )
        try:
            app.wait()
        except KeyboardInterrupt:
            click.echo("stopping: the running scan is finished and written")
    if app.failure is not None:
        sys.exit(1)
