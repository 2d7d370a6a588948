"""`ptycholive demo`: the shipped scan through the whole system."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.flags import SHIPPED_SCAN, example


@click.command(epilog=example("ptycholive demo", "ptycholive demo --once --out /tmp/star"))
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
@click.option(
    "--bundle",
    envvar="PTYCHOLIVE_BUNDLE",
    show_envvar=True,
    default="siemens-star",
    show_default=True,
    help="Model to use.",
)
@click.option(
    "--engine",
    envvar="PTYCHOLIVE_ENGINE",
    show_envvar=True,
    default="auto",
    show_default=True,
    help="What runs it, as the setting of `ptycholive serve`.",
)
def demo(
    frames: int | None,
    rate_hz: float | None,
    port: int,
    out: Path,
    no_browser: bool,
    once: bool,
    bundle: str,
    engine: str,
) -> int:
    """Watch a measured X-ray scan of a Siemens star grow in the browser."""
    from service.demo import DemoPlan, run_demo

    rate = rate_hz if rate_hz is not None else (0.0 if once else 40.0)
    browser = not no_browser and not once
    return run_demo(DemoPlan(SHIPPED_SCAN, frames, rate, port, out, browser, once, bundle, engine))
