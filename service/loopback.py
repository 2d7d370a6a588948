"""A service and its detector on one machine: what the demo shows and the benchmark measures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.app import App
from service.config import Settings


def loopback_settings(bundle: str, results: Path | str, port: int = 0, threads: int = 0) -> Settings:
    """Return the settings of a service that listens on free loopback ports for frames and positions."""
    return Settings(
        images="tcp://127.0.0.1:*",
        images_format="dectris-v2",
        images_bind=True,
        positions="tcp://127.0.0.1:*",
        positions_bind=True,
        bundle=bundle,
        results=str(results),
        port=port,
        threads=threads,
    )


def endpoints(app: App) -> tuple[str, str]:
    """Return where a service started with `loopback_settings` takes frames, and positions."""
    images, positions = (intake.source.endpoint for intake in app.intakes)
    return images, positions


@contextmanager
def detector(
    to: tuple[str, str],
    scan: Path,
    rate_hz: float,
    *,
    frames: int | None = None,
    loop: bool = False,
    quiet: bool = True,
    name: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Stream a scan file from a process of its own, in the detector's format.

    Args:
        to: where frames and positions go.
        scan: file to stream.
        rate_hz: frames a second; 0 as fast as they are taken.
        frames: only so many; None all.
        loop: begin anew, for ever.
        quiet: show no progress bar.
        name: of the scan; None as in the file.
    """
    command = [sys.executable, "-m", "service.cli", "replay", str(scan), "--format", "dectris-v2"]
    command += ["--to", to[0], "--positions", to[1], "--rate", str(rate_hz)]
    command += ["--loop"] if loop else []
    command += [] if frames is None else ["--frames", str(frames)]
    command += [] if name is None else ["--scan", name]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL if quiet else None) as process:
        try:
            yield process
        finally:
            process.terminate()
