"""`ptycholive replay`: a detector made of a scan file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from model.scans import open_scan
from service.commands.flags import example, progress_bar
from service.errors import ConfigError

if TYPE_CHECKING:
    from service.security.curve import Curve


@click.command(
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
@click.option(
    "--positions",
    "positions_to",
    help="Send the positions on their own to this endpoint; panda://host:port is a PandA that listens there.",
)
@click.option(
    "--positions-format", help="native, panda or nsls2-json.  [default: panda at panda://, else native]"
)
@click.option("--samples", type=int, default=1, show_default=True, help="Encoder samples a frame.")
@click.option(
    "--rate", "rate_hz", type=float, default=0.0, help="Frames a second; 0: as fast as they are taken."
)
@click.option("--encoding", type=click.Choice(["raw", "lz4", "bslz4"]), default="bslz4", show_default=True)
@click.option("--frames", type=int, help="Send only so many.")
@click.option("--scan", help="Name of the scan; the file's by default.")
@click.option("--loop", is_flag=True, help="Begin anew, for ever.")
@click.option("--bind", is_flag=True, help="Listen there, as real detectors do, instead of connecting.")
@click.option("--keys", type=click.Path(path_type=Path), help="Our keys, a .key_secret file: encrypt.")
@click.option("--key", type=click.Path(path_type=Path), help="Public key of the service that we connect to.")
@click.option(
    "--clients", type=click.Path(path_type=Path), help="Public keys of those who may connect to us."
)
@click.option("--faults", default="", help="drop=0.01,dup=0.01,reorder=0.05,late=0.05,seed=1")
def replay(
    file: Path,
    to: str,
    stream_format: str,
    positions_to: str | None,
    positions_format: str | None,
    samples: int,
    rate_hz: float,
    encoding: Literal["raw", "lz4", "bslz4"],
    frames: int | None,
    scan: str | None,
    loop: bool,
    bind: bool,
    keys: Path | None,
    key: Path | None,
    clients: Path | None,
    faults: str,
) -> None:
    """Be a detector: stream a recorded or simulated scan."""
    from service.faults import Faults
    from service.outlets import Destination
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
        positions_format=positions_format or _spoken_at(positions_to),
        samples=samples,
    )
    curve = _curve(keys, clients if bind else key, "--clients" if bind else "--key", bind=bind)
    with open_scan(file) as opened, progress_bar(min(frames or len(opened), len(opened))) as progress:
        where = Destination(to, positions_to, bind=bind, curve=curve)
        sent = run_replay(opened, plan, where, progress)
    click.echo(f"sent {sent.frames} frames of {plan.scan} in {sent.messages} messages", err=True)


def _curve(keys: Path | None, theirs: Path | None, flag: str, *, bind: bool) -> Curve | None:
    """Return our keys and theirs: one key of whoever listens, or a folder of those of who may connect."""
    from service.security.curve import CurveClient, CurveServer
    from service.security.keys import load_pair, load_public

    if keys is None and theirs is None:
        return None
    if keys is None or theirs is None:
        raise ConfigError(f"--keys and {flag} go together: ours, and theirs")
    pair = load_pair(keys)
    return CurveServer(pair, theirs) if bind else CurveClient(pair, load_public(theirs))


def _spoken_at(endpoint: str | None) -> str:
    return "panda" if (endpoint or "").startswith("panda://") else "native"
