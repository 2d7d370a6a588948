"""`ptycholive label`: a recorded scan is reconstructed, so that it can teach and judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from model.bundle import BundleError
from model.scans import ScanFileError, open_scan
from training.judging.engine_options import counted, engine_options, settings_of
from training.judging.iterative import IterativeSettings, iterate
from training.judging.measured_frames import probe_of, scan_frames, write_labelled


def label(path: Path, out: Path, probe: str, modes: int | None, settings: IterativeSettings) -> str:
    """Reconstruct a scan, write it with its reconstruction, and return one line on it.

    Raises:
        ScanFileError, BundleError: scan or probe cannot be read, or the file cannot be written.
        ValueError: they do not fit each other, or the engine diverged.
    """
    with open_scan(path) as scan, counted("Reconstructing", settings.iterations) as progress:
        counts = scan.frames()
        frames, pixel_m = scan_frames(scan, counts, probe_of(probe, counts, scan.mask, modes))
        found = iterate(frames, settings, progress)
        method = (
            f"{settings.engine} of pty-chi, {settings.iterations} iterations, probe from {Path(probe).name}"
        )
        write_labelled(out, scan, counts, found, pixel_m, method)
    empty, last = found.residuals[0], found.residuals[found.iterations]
    return (
        f"{out}: forward residual {last:.4f} (empty object: {empty:.4f}) after {found.iterations} iterations "
        f"in {found.seconds:.0f} s"
    )


@click.command(
    "label",
    epilog="""\b
Example:
  ptycholive label recordings/scan7.h5 --probe siemens-star --out scan7.cxi
  ptycholive train --probe scan7.cxi --out runs/today""",
)
@click.argument("scan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Scan file to write."
)
@engine_options
def command(scan: Path, out: Path, probe: str | None, modes: int | None, **options: Any) -> None:
    """Reconstruct a recorded scan iteratively (pty-chi).

    What is written is the scan with object and probe beside it: `train --probe` and `train --data` learn from
    it, `evaluate` judges by it.
    """
    try:
        line = label(scan, out, probe or str(scan), modes, settings_of(options))
    except (BundleError, ScanFileError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(line)
