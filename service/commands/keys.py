"""`ptycholive keys`: a pair of keys for encrypted streams."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.flags import example
from service.errors import ConfigError
from service.wire.fields import legal_scan_name


@click.command(epilog=example("ptycholive keys --out keys", "ptycholive keys --out keys --name detector"))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to put the two files in.")
@click.option("--name", default="ptycholive", show_default=True, help="Of the files.")
def keys(out: Path, name: str) -> None:
    """Make a pair of keys: NAME.key for the others, NAME.key_secret for whoever is to be NAME.

    `serve` takes its own with --keys, those who may connect with --clients FOLDER, and the public key of a
    detector that it connects to with --images-key; `replay` has --keys, --clients and --key.
    """
    from service.security.keys import make_keys

    if not legal_scan_name(name):
        raise ConfigError(f"{name!r} is no name for files: use letters, digits, dots and dashes")
    public, secret = make_keys(out, name)
    click.echo(f"{secret}: stays here; nobody else may read it")
    click.echo(f"{public}: give it to those who connect, or who let you in")
