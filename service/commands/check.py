"""`ptycholive check`: whether everything that the service needs answers."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.flags import example, with_settings
from service.config import Settings
from service.errors import ConfigError

_LONGEST_TIMEOUT_S = 86_400


@click.command(
    epilog=example(
        "ptycholive check --images tcp://detector:31001 --timeout 10", "ptycholive check --orient scan.cxi"
    )
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--timeout", "timeout_s", default=5.0, show_default=True, help="Seconds to wait for each stream."
)
@click.option("--orient", is_flag=True, help="Find out how frames and positions must be turned.")
@click.option(
    "--frames", type=click.IntRange(min=8), default=48, show_default=True, help="To take, with --orient."
)
@with_settings
def check(settings: Settings, file: Path | None, timeout_s: float, orient: bool, frames: int) -> int:
    """Say OK, TIMEOUT or ERROR of each stream, the engine and the bundle.

    Exit status 0 when all are OK, else 1. A message that is taken while looking is lost to the service: check
    before a scan, not during one.

    With --orient, take the first frames of the streams, or of the scan file FILE, and name the settings
    orientation and positions-axes that explain them best; crop, bin, beam-centre and mask are obeyed.
    """
    from service.check import check_all
    from service.orienting.check import check_orientation

    if not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        raise ConfigError(f"a timeout of {timeout_s} s is not between 0 and {_LONGEST_TIMEOUT_S} s")
    if orient:
        for line in check_orientation(settings, frames, timeout_s, file):
            click.echo(line)
        return 0
    if file is not None:
        raise ConfigError(f"{file}: a scan file is looked at with --orient only")
    worst = 0
    for result in check_all(settings, timeout_s):
        click.echo(f"{result.verdict:<8}{result.what}: {result.detail}")
        worst |= result.verdict != "OK"
    return int(worst)
