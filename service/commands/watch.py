"""`ptycholive watch`: the mosaic in a terminal."""

from __future__ import annotations

import click

from service.commands.flags import example

_CHANNELS = ("amplitude", "phase", "agreement", "coverage", "confidence")


@click.command(
    epilog=example("ptycholive watch", "ptycholive watch http://beamline:8080 --channel amplitude --once")
)
@click.argument("url", default="http://127.0.0.1:8080")
@click.option("--token", envvar="PTYCHOLIVE_TOKEN", help="The service's token, where it has one.")
@click.option("--scan", help="Which scan; the current one by default.")
@click.option("--channel", type=click.Choice(_CHANNELS), default="phase", show_default=True)
@click.option("--once", is_flag=True, help="End when the scan is finished.")
def watch(url: str, token: str | None, scan: str | None, channel: str, once: bool) -> None:
    """Draw the mosaic of a running service in this terminal, with progress and ledger."""
    from service.client import Live
    from service.terminal import watch_scan

    with Live(url, token=token, scan=scan, level=None) as live:
        watch_scan(live, channel, once=once)
