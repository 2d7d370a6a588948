"""The process of the peers: published networks in torch and on ONNX Runtime, and a naive script.

They need torch, which the service never loads. So they are the program `training.peers`, which is there with
the extra `training`: it says what it has in a line of JSON, and then a line for each that it is told to run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from service.benchmarking.journey import Subject
from service.benchmarking.timing import BATCH, Say, Spent
from service.engines.graph import cores
from service.errors import ConfigError
from service.loopback import detector

_MODULE: Final = "training.peers"
_NEEDED: Final = "torch"


class Peers:
    """The process of the peers.

    Args:
        process: just started.
        subject: what is measured.

    Attributes:
        networks: names of what it can run, in the order told.
        operations: a frame takes of each network, a multiplication and an addition being two, by its name.
        peak_flop_per_s: of a large float32 matrix product with the same threads on the same device.
        script: what the naive script runs; None: it cannot unpack the frames.

    Raises:
        ConfigError: it ended instead of telling what it has.
    """

    def __init__(self, process: subprocess.Popen[str], subject: Subject) -> None:
        self._process = process
        self._subject = subject
        told = self._answer()
        self.networks: list[str] = told["networks"]
        self.operations: dict[str, float] = told["operations"]
        self.peak_flop_per_s: float = told["peak_flop_per_s"]
        self.script: str | None = told["script"]
        self._endpoints = told["endpoints"]

    def run(self, network: str) -> Spent:
        """Run one network on the frames.

        Raises:
            ConfigError: the process ended.
        """
        self._ask(network)
        return Spent(**self._answer())

    def run_script(self) -> Spent:
        """Stream the scan to the naive script; return what it took from the first frame to the last stitched.

        Raises:
            ConfigError: the process ended.
        """
        self._ask("script")
        images, positions = self._endpoints
        with detector((images, positions), self._subject.scan, rate_hz=0, frames=self._subject.frames):
            return Spent(**self._answer())

    def _ask(self, what: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()

    def _answer(self) -> Any:
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise ConfigError(f"the process of the peers, {_MODULE}, ended: see what it says above")
        return json.loads(line)


@contextmanager
def peers_of(subject: Subject, frames: int, device: str, say: Say) -> Iterator[Peers | None]:
    """Start the peers; None, said in a line, where torch is not installed.

    Args:
        subject: what is measured.
        frames: that a network is given each time.
        device: "cpu" or "cuda".
        say: takes a line.
    """
    if find_spec(_NEEDED) is None:
        say("torch is not installed: no peers")
        yield None
        return
    command = [sys.executable, "-m", _MODULE, "--scan", str(subject.scan), "--bundle", subject.bundle]
    command += ["--threads", str(subject.threads or cores()), "--frames", str(frames), "--device", device]
    command += ["--batch", str(BATCH)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Peers(process, subject)
        finally:
            process.terminate()
