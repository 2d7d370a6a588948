"""`ptycholive demo`: the whole journey on the shipped scan, judged against its reference."""

from __future__ import annotations

import json
import subprocess
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from model.scans import open_scan
from service.app import App
from service.comparison import Comparison, compare, side_by_side
from service.errors import ConfigError
from service.loopback import detector, endpoints, loopback_settings
from service.scan_run import ScanRun
from service.serving import serving

_PATIENCE_S = 600.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the demo does.

    Attributes:
        scan: file to stream.
        frames: only so many; None all.
        rate_hz: frames a second; 0 as fast as they are taken.
        port: of the page.
        out: folder for results.
        browser: open the page.
        once: end when the scan is stitched.
        bundle: model.
        engine: what runs it, as the setting.
    """

    scan: Path
    frames: int | None
    rate_hz: float
    port: int
    out: Path
    browser: bool
    once: bool
    bundle: str
    engine: str


def run_demo(plan: DemoPlan) -> int:
    """Run it; return the exit status: 0 only if every frame was stitched.

    Raises:
        ConfigError, EngineError, ScanFileError: it cannot run; one line says why.
    """
    settings = loopback_settings(plan.bundle, plan.out, plan.port, engine=plan.engine)
    with open_scan(plan.scan) as scan:
        expected = min(plan.frames or len(scan), len(scan))
    with serving(settings) as (app, web):
        click.echo(f"page: {web.url}")
        if plan.browser:
            webbrowser.open(web.url)
        run = _stream(app, plan, expected)
        click.echo(f"ledger: {run.ledger.counts().in_words()}")
        if plan.once:
            _await_refinement(app, run)
        else:
            click.echo("the page stays up until Ctrl-C")
            _wait(app)
    complete = run.ledger.counts().stitched == expected
    _tell(run, app, plan)
    return 0 if complete else 1


def _wait(app: App) -> None:
    try:
        app.wait()
    except KeyboardInterrupt:
        click.echo()


def _await_refinement(app: App, run: ScanRun) -> None:
    """Wait while idle time improves the mosaic; the settings say for how long it may."""
    while (report := app.refiner.report(run)) is not None and not report["ended"]:
        if app.wait(_POLL_S):
            return


def _stream(app: App, plan: DemoPlan, expected: int) -> ScanRun:
    """Start the detector, and wait until its scan is finished."""
    with detector(endpoints(app), plan.scan, plan.rate_hz, frames=expected, quiet=plan.once) as process:
        return _finished(app, process)


def _finished(app: App, process: subprocess.Popen[bytes]) -> ScanRun:
    patience_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patience_s and app.failure is None:
        runs = app.runs.newest_first()
        if runs and runs[0].finished_ns is not None:
            return runs[0]
        if process.poll() not in (None, 0):
            raise ConfigError(
                f"the replay ended with exit status {process.returncode}: run it by hand to see why"
            )
        app.wait(_POLL_S)
    raise ConfigError(f"the scan was not finished: {app.failure or f'after {_PATIENCE_S:.0f} s'}")


def _tell(run: ScanRun, app: App, plan: DemoPlan) -> None:
    """Print ledger and figures, and leave them beside the result file."""
    report = run.report(run.finished_ns or 0)
    ledger = {k: v for k, v in report["ledger"].items() if k != "dropped"}
    click.echo("        " + ", ".join(f"{name} {number}" for name, number in ledger.items()))
    click.echo(f"        dropped: {report['ledger']['dropped'] or 'none'}")
    for line in report["warnings"]:
        click.echo(f"warning: {line}")
    if not run.ledger.counts().stitched:
        return  # there is nothing to compare
    comparison = compare(run.mosaic, app.engine.bundle, plan.scan, run.placed()[0])
    rates = report["rates"]
    click.echo(
        f"speed:  {rates['mean_frames_per_s']:.1f} frames/s, frame to mosaic "
        f"p50 {rates['latency_p50_s'] * 1e3:.0f} ms, p99 {rates['latency_p99_s'] * 1e3:.0f} ms"
    )
    for line in comparison.in_words():
        click.echo(line)
    refined = _judge_refined(run, app, plan)
    if refined is not None:
        click.echo(_refined_in_words(refined, app.refiner.report(run) or {}))
    _leave(comparison, refined, report, plan.out)
    click.echo(
        f"files:  {app.store.file(run.scan)}, {plan.out / 'comparison.png'}, {plan.out / 'figures.json'}"
    )


def _judge_refined(run: ScanRun, app: App, plan: DemoPlan) -> Comparison | None:
    mosaic = app.refiner.refined(run)
    return None if mosaic is None else compare(mosaic, app.engine.bundle, plan.scan, run.placed()[0])


def _refined_in_words(refined: Comparison, told: dict[str, Any]) -> str:
    found, resolution_nm = refined.likeness, refined.resolution_m["half_bit"] * 1e9
    return (
        f"refined: {told['sweeps']} sweeps in {told['seconds']:.1f} s of idle time: phase correlation "
        f"{found.phase_correlation:.4f}, error {found.phase_rms_rad:.4f} rad RMS, amplitude correlation "
        f"{found.amplitude_correlation:.3f}, forward residual {refined.residuals['mosaic']:.4f}, "
        f"half a bit down to {resolution_nm:.0f} nm"
    )


def _leave(comparison: Comparison, refined: Comparison | None, report: dict[str, object], out: Path) -> None:
    figures = {
        "report": report,
        "comparison": comparison.as_dict(),
        "refined": None if refined is None else refined.as_dict(),
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    side_by_side(comparison).save(out / "comparison.png")
