"""A service and its detector for the benchmark: a scan goes through real sockets, as often as wanted."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
import zmq

from service.app import App
from service.benchmarking.timing import BATCH
from service.engines.choice import AUTO
from service.errors import ConfigError
from service.loopback import detector, endpoints, loopback_settings
from service.scan_run import ScanRun
from service.serving import serving

_PATIENCE_S: Final = 600.0
_POLL_S: Final = 0.02
_SILENCE_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        scan: file to stream.
        bundle: model.
        threads: of the engine; 0: one a core.
        frames: of the scan that are streamed; None: all.
        engine: that runs it.
        batch_frames: frames of a batch.
    """

    scan: Path
    bundle: str
    threads: int = 0
    frames: int | None = None
    engine: str = AUTO
    batch_frames: int = BATCH


class Stand:
    """A running service that scans are streamed to, one after the other."""

    def __init__(self, app: App, subject: Subject) -> None:
        self.app = app
        self._subject = subject
        self._numbers = count()

    def stream(self, rate_hz: float, frames: int | None = None) -> ScanRun:
        """Stream the scan once; return it finished.

        Args:
            rate_hz: frames a second; 0 as fast as they are taken.
            frames: only so many; None: as many as the subject says.

        Raises:
            ConfigError: it was not finished in time.
        """
        name = f"bench-{next(self._numbers)}"
        wanted = self._subject.frames if frames is None else frames
        with detector(endpoints(self.app), self._subject.scan, rate_hz, frames=wanted, name=name):
            return self._finished(name)

    def _finished(self, name: str) -> ScanRun:
        patience_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < patience_s:
            run = self.app.runs.get(name)
            if run is not None and run.finished_ns is not None:
                return run
            time.sleep(_POLL_S)
        raise ConfigError(f"no scan was finished within {_PATIENCE_S:.0f} s: is the machine overloaded?")


@contextmanager
def stand(subject: Subject) -> Iterator[Stand]:
    """Run the service on free ports, its results thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        settings = msgspec.structs.replace(
            loopback_settings(subject.bundle, folder, threads=subject.threads),
            engine=subject.engine,
            batch_frames=subject.batch_frames,
        )
        with serving(settings) as (app, _):
            yield Stand(app, subject)


@contextmanager
def ignored_detector(subject: Subject) -> Iterator[None]:
    """Let a detector stream as fast as it can to sockets that throw everything away."""
    with zmq.Context() as context, context.socket(zmq.PULL) as frames, context.socket(zmq.PULL) as positions:
        ports = [sink.bind_to_random_port("tcp://127.0.0.1") for sink in (frames, positions)]
        to = (f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}")
        with detector(to, subject.scan, rate_hz=0, frames=subject.frames):
            frames.poll()  # it has begun
            drain = threading.Thread(target=_drain, args=([frames, positions],))
            drain.start()
            yield
            drain.join()


def _drain(sinks: list[zmq.Socket[bytes]]) -> None:
    """Receive until nothing comes any more."""
    while any(sink.poll(_SILENCE_MS) for sink in sinks):
        for sink in sinks:
            while sink.poll(0):
                sink.recv_multipart()
