"""The command `ptycholive`."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import entry_points
from typing import cast

import click

from model.bundle import BundleError
from model.scans import ScanFileError
from service.commands import bench, check, demo, keys, model, record, replay, report, serve, tiled, watch
from service.commands.flags import Command, example
from service.errors import ConfigError, PtycholiveError

OFFLINE = "ptycholive.commands"  # entry points of the offline side, which the service never imports
# what a module that may be missing is installed with
EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino", "p4p": "epics", "ray": "cluster", "tiled": "tiled"}


class _Group(click.Group):
    """The commands of the service, and those of the offline side, which are imported only to be run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=OFFLINE).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _listed(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, (_offline(name) if name in entry_points(group=OFFLINE).names else command), rest


def _listed(name: str) -> click.Command | None:
    """Return what stands for an offline command in a list: importing torch for that takes seconds."""
    if name not in entry_points(group=OFFLINE).names:
        return None
    return click.Command(name, short_help="Offline side, with the extra [training].")


def _offline(name: str) -> click.Command:
    entry = next(iter(entry_points(group=OFFLINE, name=name)))
    try:
        return cast(click.Command, entry.load())
    except ModuleNotFoundError as error:
        line = f"{name} needs {error.name}: pip install 'ptycholive[training]'"
        return click.Command(name, callback=_refusing(line), help=line, context_settings=_ANYTHING)


_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def _refusing(line: str) -> Command:
    def refuse() -> None:
        raise ConfigError(line)

    return refuse


def main() -> None:
    """Run a command; what the user can mend is one line and exit status 2."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        line = error.format_message() + (f" See {error.ctx.command_path} --help" if error.ctx else "")
    except click.ClickException as error:
        line = error.format_message()
    except (PtycholiveError, BundleError, ScanFileError) as error:
        line = str(error)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        line = f"{error.name} is not installed: pip install 'ptycholive[{EXTRAS[error.name]}]'"
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    click.echo(f"ptycholive: {' '.join(line.split())}", err=True)
    sys.exit(2)


@click.group(cls=_Group, epilog=example("ptycholive demo", "ptycholive serve --help"))
@click.version_option(package_name="ptycholive")
def cli() -> None:
    """Real-time ptychography at the beamline edge."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


for _command in (
    bench.bench,
    check.check,
    demo.demo,
    keys.keys,
    model.model,
    record.record,
    replay.replay,
    report.report,
    serve.serve,
    tiled.tiled,
    watch.watch,
):
    cli.add_command(_command)


if __name__ == "__main__":
    main()
