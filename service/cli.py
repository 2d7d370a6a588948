"""The command `ptycholive`."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import wraps
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, cast

import click

from model.bundle import BUNDLES, Bundle, BundleError, find_bundle, load_bundle
from model.scans import ScanFileError, open_scan
from service.config import Setting, Settings, all_settings, load_settings
from service.errors import ConfigError, PtycholiveError

OFFLINE = "ptycholive.commands"  # entry points of the offline side, which the service never imports
EXTRAS = {"onnxruntime": "cpu"}  # what a module that may be missing is installed with
SHIPPED_SCAN = Path(__file__).with_name("data") / "siemens_star_aps.cxi"

_LONGEST_TIMEOUT_S = 86_400
_SWAP_TIMEOUT_S = 90

Command = Callable[..., Any]


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


def example(*lines: str) -> str:
    """Return the epilog that shows how a command is called."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def with_settings(command: Command) -> Command:
    """Add `--config` and a flag for every setting; the command is given the `Settings`."""

    @wraps(command)
    def call(config: Path | None, **values: Any) -> Any:
        names = {setting.name for setting in all_settings()}
        flags = {name: value for name, value in values.items() if name in names}
        others = {name: value for name, value in values.items() if name not in names}
        return command(settings=load_settings(flags, config), **others)

    flagged: Command = call
    for setting in reversed(all_settings()):
        flagged = _flag(setting)(flagged)
    return click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")(flagged)


def _flag(setting: Setting) -> Callable[[Command], Command]:
    name = setting.name.replace("_", "-")
    told = f"{setting.description}  [default: {'none' if setting.default is None else setting.default}]"
    if setting.kind is bool:
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=told)
    kind = click.Choice(setting.choices) if setting.choices else setting.kind
    return click.option(f"--{name}", setting.name, type=kind, default=None, help=told)


@click.group(cls=_Group, epilog=example("ptycholive demo", "ptycholive serve --help"))
@click.version_option(package_name="ptycholive")
def cli() -> None:
    """Real-time ptychography at the beamline edge."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


@cli.command(
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


@cli.command(epilog=example("ptycholive check --images tcp://detector:31001 --timeout 10"))
@click.option(
    "--timeout", "timeout_s", default=5.0, show_default=True, help="Seconds to wait for each stream."
)
@with_settings
def check(settings: Settings, timeout_s: float) -> int:
    """Say OK, TIMEOUT or ERROR of each stream, the engine and the bundle.

    Exit status 0 when all are OK, else 1. A message that is taken while looking is lost to the service: check
    before a scan, not during one.
    """
    from service.check import check_all

    if not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        raise ConfigError(f"a timeout of {timeout_s} s is not between 0 and {_LONGEST_TIMEOUT_S} s")
    worst = 0
    for result in check_all(settings, timeout_s):
        click.echo(f"{result.verdict:<8}{result.what}: {result.detail}")
        worst |= result.verdict != "OK"
    return int(worst)


@cli.command(
    epilog=example(
        "ptycholive replay scan.cxi --to tcp://127.0.0.1:31001 --format dectris-v2 --bind --rate 100",
        "ptycholive replay scan.cxi --to tcp://127.0.0.1:5555 --faults drop=0.01,reorder=0.05",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", required=True, help="Endpoint to send the detector's stream to.")
@click.option(
    "--format",
    "stream_format",
    default="native",
    show_default=True,
    help="native, dectris-v1, dectris-v2 or array-1.0.",
)
@click.option("--positions", "positions_to", help="Send the positions on their own to this endpoint.")
@click.option(
    "--rate", "rate_hz", type=float, default=0.0, help="Frames a second; 0: as fast as they are taken."
)
@click.option("--encoding", type=click.Choice(["raw", "lz4", "bslz4"]), default="bslz4", show_default=True)
@click.option("--frames", type=int, help="Send only so many.")
@click.option("--scan", help="Name of the scan; the file's by default.")
@click.option("--loop", is_flag=True, help="Begin anew, for ever.")
@click.option("--bind", is_flag=True, help="Listen there, as real detectors do, instead of connecting.")
@click.option("--faults", default="", help="drop=0.01,dup=0.01,reorder=0.05,late=0.05,seed=1")
def replay(
    file: Path,
    to: str,
    stream_format: str,
    positions_to: str | None,
    rate_hz: float,
    encoding: Literal["raw", "lz4", "bslz4"],
    frames: int | None,
    scan: str | None,
    loop: bool,
    bind: bool,
    faults: str,
) -> None:
    """Be a detector: stream a recorded or simulated scan."""
    from service.faults import Faults
    from service.replay import ReplayPlan, run_replay, scan_name

    plan = ReplayPlan(
        scan=scan or scan_name(file),
        format=stream_format,
        encoding=encoding,
        rate_hz=rate_hz or None,
        loop=loop,
        faults=Faults.parse(faults),
        frames=frames,
        positions="stream" if positions_to else "start",
    )
    with open_scan(file) as opened, _progress_bar(min(frames or len(opened), len(opened))) as progress:
        sent = run_replay(opened, plan, to, positions_to=positions_to, bind=bind, progress=progress)
    click.echo(f"sent {sent.frames} frames of {plan.scan} in {sent.messages} messages", err=True)


class _progress_bar:  # noqa: N801 - used like a function
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        hidden = not sys.stderr.isatty()
        self._bar = click.progressbar(length=total, label="streaming", file=sys.stderr, hidden=hidden)

    def __enter__(self) -> Callable[[int, int], None]:
        self._bar.__enter__()
        return lambda done, _total: self._bar.update(done - self._bar.pos)

    def __exit__(self, *error: object) -> None:
        self._bar.render_finish()


@cli.command(epilog=example("ptycholive demo", "ptycholive demo --once --out /tmp/star"))
@click.option("--frames", type=click.IntRange(min=1), help="Stream only so many.")
@click.option(
    "--rate",
    "rate_hz",
    type=click.FloatRange(min=0),
    help="Frames a second; 0: as fast as possible.  [default: 40; 0 with --once]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of the page; 0 takes a free one.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-results"), show_default=True)
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@click.option("--once", is_flag=True, help="End when the scan is stitched; print ledger and figures.")
@click.option("--bundle", default="siemens-star", show_default=True, help="Model to use.")
def demo(
    frames: int | None, rate_hz: float | None, port: int, out: Path, no_browser: bool, once: bool, bundle: str
) -> int:
    """Watch a measured X-ray scan of a Siemens star grow in the browser."""
    from service.demo import DemoPlan, run_demo

    rate = rate_hz if rate_hz is not None else (0.0 if once else 40.0)
    return run_demo(
        DemoPlan(SHIPPED_SCAN, frames, rate, port, out, not no_browser and not once, once, bundle)
    )


@cli.command(epilog=example("ptycholive bench", "ptycholive bench --json bench.json"))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--bundle", default="siemens-star", show_default=True, help="Model to measure.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Times each figure is taken; the median is told.",
)
def bench(json_file: Path | None, bundle: str, rounds: int) -> None:
    """Measure stage by stage and end to end, in one run."""
    from service.benchmark import run_benchmark

    if json_file is not None and (json_file.is_dir() or not json_file.parent.is_dir()):
        raise ConfigError(f"{json_file} cannot be written: is its folder there?")
    figures = run_benchmark(SHIPPED_SCAN, bundle, rounds, click.echo)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


@cli.group(epilog=example("ptycholive model show siemens-star"))
def model() -> None:
    """List, show, verify and activate bundles."""


@model.command(name="list", epilog=example("ptycholive model list"))
@click.argument("folder", type=click.Path(path_type=Path), default=BUNDLES)
def list_models(folder: Path) -> None:
    """List the bundles in a folder; those that are shipped by default."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    for description in sorted(folder.glob("*/model.json")):
        try:
            told = load_bundle(description.parent).description
        except BundleError as error:
            click.echo(f"{description.parent.name}: REFUSED: {error}")
        else:
            pixels = f"{told.frame_shape[0]}² → {told.tile_shape[0]}²"
            click.echo(
                f"{description.parent.name}: {told.kind}, {pixels}, {told.object_pixel_m * 1e9:.2f} nm"
            )


@model.command(epilog=example("ptycholive model show siemens-star"))
@click.argument("bundle")
def show(bundle: str) -> None:
    """Print a bundle's description."""
    click.echo((_load(bundle).path / "model.json").read_text().rstrip())


@model.command(epilog=example("ptycholive model verify /data/bundles/today"))
@click.argument("bundle")
def verify(bundle: str) -> None:
    """Check a bundle's hashes, shapes and that its network runs."""
    from service.check import check_engine

    told = _load(bundle)
    finding = check_engine(told, threads=0)
    if finding.verdict != "OK":
        raise ConfigError(finding.detail)
    click.echo(f"OK: {told.description.name}, sha256 {told.description.onnx_sha256}, {finding.detail}")


def _load(bundle: str) -> Bundle:
    return load_bundle(find_bundle(bundle))


@model.command(epilog=example("ptycholive model activate /data/bundles/today --url http://127.0.0.1:8080"))
@click.argument("bundle")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Of the running service.")
@click.option("--token", envvar="PTYCHOLIVE_TOKEN", help="Of the running service.")
def activate(bundle: str, url: str, token: str | None) -> None:
    """Make a running service go on with another model, at a batch border; no frame is lost."""
    folder = str(find_bundle(bundle).resolve())
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r} is not the http:// address of a service")
    try:
        click.echo(f"active: {_post_model(url, folder, token)['name']}")
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{url} refused: {_refusal(error)}") from error
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"no service of ours answers at {url}: {error}") from error


def _post_model(url: str, bundle: str, token: str | None) -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(  # noqa: S310 - its scheme is http or https
        f"{url.rstrip('/')}/api/model", json.dumps({"bundle": bundle}).encode(), headers
    )
    # a proxy that the environment names for the world outside does not know the beamline's machines
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_SWAP_TIMEOUT_S) as answer:
        return json.load(answer)


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, LookupError, TypeError):  # not ours, or something in between
        return str(error)


if __name__ == "__main__":
    main()
