"""Programs that others wrote, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIRED = "PEERS_REQUIRED"  # where they must not be skipped


class Peers:
    """One of the environments that `make peers` makes."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._running: list[subprocess.Popen[bytes]] = []

    def program(self, name: str) -> Path:
        """Return one of its programs."""
        return self._programs / name

    def start(self, name: str, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        """Start one of its programs; it ends with the tests' session."""
        command = [str(self.program(name)), *map(str, arguments)]
        with log.open("wb") as told:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, 9)  # with those that it has started
            process.wait()


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    """Programs that speak to the service."""
    yield from _installed(ROOT / ".venv-peers")


@pytest.fixture(scope="session")
def readers() -> Iterator[Peers]:
    """Programs that take its results."""
    yield from _installed(ROOT / ".venv-readers")


def _installed(environment: Path) -> Iterator[Peers]:
    if not (environment / "made.stamp").exists():
        missing = "the programs by others are not installed: make peers"
        (pytest.fail if REQUIRED in os.environ else pytest.skip)(missing)
    peers = Peers(environment / "bin")
    yield peers
    peers.close()
