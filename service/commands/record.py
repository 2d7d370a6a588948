"""`ptycholive record`: the streams, written to scan files."""

from __future__ import annotations

import signal

import click
import msgspec

from service.commands.flags import example, with_settings
from service.config import Settings


@click.command(
    epilog=example(
        "ptycholive record --images tcp://detector:31001 --positions panda://panda:8889 --out /data/scans",
        "ptycholive record --images tcp://127.0.0.1:5555 --images-bind --out . --scans 1",
    )
)
@click.option("--out", help="Folder of the scan files; the setting record by default.")
@click.option("--scans", type=click.IntRange(min=1), help="End after so many scan files.")
@with_settings
def record(settings: Settings, out: str | None, scans: int | None) -> None:
    """Write what the detector sends to scan files, compressed as it came; no engine and no bundle is needed.

    A scan is NAME.part.cxi while it comes and NAME.cxi when it is over; `ptycholive replay` plays it.
    """
    from service.record import record as record_streams

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        record_streams(msgspec.structs.replace(settings, record=out or settings.record), click.echo, scans)
    except KeyboardInterrupt:
        click.echo("stopped: the running scan's file is ended")
