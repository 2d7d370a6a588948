"""Programs that others wrote, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = Path(__file__).with_name("peers.lock")
REQUIRED = "PEERS_REQUIRED"  # where they must not be skipped


class Peers:
    """The environment that `make peers` makes."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        """Start one of its programs; it ends with the tests' session."""
        command = [str(self._programs / name), *map(str, arguments)]
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
    programs = ROOT / ".venv-peers/bin"
    if not (ROOT / ".venv-peers/made.stamp").exists():
        missing = "the programs by others are not installed: make peers"
        (pytest.fail if REQUIRED in os.environ else pytest.skip)(missing)
    peers = Peers(programs)
    yield peers
    peers.close()
