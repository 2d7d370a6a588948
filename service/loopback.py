"""A service and its detector on one machine: what the demo shows and the benchmark measures."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.app import App
from service.config import Settings

FREE: Final = "tcp://127.0.0.1:*"
_PATIENCE_S: Final = 300.0
_POLL_S: Final = 0.005


def loopback_settings(
    bundle: str, results: Path | str, port: int = 0, threads: int = 0, engine: str = "auto"
) -> Settings:
    """Return the settings of a service that listens on free loopback ports for frames and positions."""
    return Settings(
        images=FREE,
        images_format="dectris-v2",
        images_bind=True,
        positions=FREE,
        positions_bind=True,
        bundle=bundle,
        results=str(results),
        port=port,
        threads=threads,
        engine=engine,
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


@contextmanager
def service_process(bundle: str, *options: str) -> Iterator[tuple[str, int]]:
    """Run `ptycholive serve` in a process of its own, its results thrown away; yield its page and its number.

    Args:
        bundle: model.
        options: flags of `serve`; the page's port is a free one.

    Raises:
        TimeoutError: it was not ready in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "service.cli", "serve", "--port", "0", "--results", folder]
        command += ["--bundle", bundle, *options]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                url = next(line for line in process.stdout or () if line.startswith("page: ")).split()[1]
                _wait_until_ready(url)
                yield url, process.pid
            finally:
                process.terminate()


def _wait_until_ready(url: str) -> None:
    patience_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patience_s:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):  # noqa: S310 - our own service
                return
        except urllib.error.URLError:
            time.sleep(_POLL_S)
    raise TimeoutError(f"{url} was not ready within {_PATIENCE_S:.0f} s")
