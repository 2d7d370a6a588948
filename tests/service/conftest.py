"""The journey of the frames in simulated time, and what a detector would send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from model.scans import ScanFile, open_scan
from service.config import Settings
from service.messages import Event, Positions
from service.outlets import Destination
from service.paint import Painted
from service.reconstruct import JourneySettings, Reconstruction
from service.replay import ReplayPlan, messages, run_replay
from service.scan_run import ScanRun
from service.serving import serving
from service.sources import decoder_for

EVENT_S = 1e-3
TICK_S = 0.01
LOOPBACK = "tcp://127.0.0.1:*"


class Journey:
    """A reconstruction in simulated time, and all that it tells; every event takes a millisecond."""

    def __init__(self, engine: Any, **settings: Any) -> None:
        self.now_s = 100.0
        self.started: list[ScanRun] = []
        self.finished: list[ScanRun] = []
        self.painted: list[Painted] = []
        self.strays: list[str] = []
        self._reconstruction = Reconstruction(
            engine, JourneySettings(**settings), self, lambda: int(self.now_s * 1e9)
        )
        self.swap = self._reconstruction.swap
        self.close = self._reconstruction.close
        self.abort = self._reconstruction.abort

    def scan_started(self, run: ScanRun) -> None:
        self.started.append(run)

    def batch_stitched(self, run: ScanRun, painted: Painted) -> None:
        self.painted.append(painted)

    def scan_finished(self, run: ScanRun) -> None:
        self.finished.append(run)

    def stray(self, line: str) -> None:
        self.strays.append(line)

    @property
    def run(self) -> ScanRun:
        """The scan that is running."""
        assert self._reconstruction.run is not None
        return self._reconstruction.run

    @property
    def idle(self) -> bool:
        return self._reconstruction.run is None

    def take(self, events: Iterable[Event]) -> Journey:
        """Let events come, one after the other."""
        for event in events:
            self._reconstruction.handle(event, self.now_s)
            self._reconstruction.tick(self.now_s)
            self.now_s += EVENT_S
        return self

    def wait(self, seconds: float) -> Journey:
        """Let time pass."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += TICK_S
            self._reconstruction.tick(self.now_s)
        return self

    def result(self) -> ScanRun:
        """Return the one scan that there was; it is over, and every frame ended in exactly one place."""
        (run,) = self.finished
        assert self.idle
        assert run.ledger.counts().balanced, run.ledger.counts()
        return run


@pytest.fixture
def journey(tiny_engine: Any) -> Callable[..., Journey]:
    """Return what begins a journey, with the small bundle's engine unless another is given."""

    def begin(engine: Any = tiny_engine, **settings: Any) -> Journey:
        return Journey(engine, **settings)

    return begin


@pytest.fixture(scope="session")
def tiny_file(tiny_scan: Path) -> Iterator[ScanFile]:
    """Return the small scan, open."""
    with open_scan(tiny_scan) as scan:
        yield scan


@pytest.fixture(scope="session")
def stream(tiny_file: ScanFile) -> Callable[..., list[Event]]:
    """Return what replays the small scan: settings of a `ReplayPlan` → events in the order sent.

    Of a position stream only the positions come, as the service takes them.
    """

    def replayed(**settings: Any) -> list[Event]:
        plan = ReplayPlan(**{"scan": "tiny", "format": "dectris-v2", "encoding": "raw", **settings})
        decoders = {"detector": decoder_for(plan.format), "positions": decoder_for("native")}
        return [
            event
            for message in messages(tiny_file, plan)
            for event in decoders[message.lane].decode(message.parts, 0)
            if message.lane == "detector" or isinstance(event, Positions)
        ]

    return replayed


class Service:
    """A real service on free ports, and a detector that streams to it."""

    def __init__(self, settings: Settings, scan: ScanFile) -> None:
        self._scan = scan
        self._stack = ExitStack()
        self.app, self.web = self._stack.enter_context(serving(settings))
        self.http = self._stack.enter_context(httpx.Client(base_url=self.web.url, trust_env=False))
        self._context = self._stack.enter_context(zmq.Context())
        self.results = Path(settings.results)
        self.format = settings.images_format

    def stop(self) -> None:
        self._stack.close()

    def sender(self, source: int = 0) -> zmq.Socket[bytes]:
        """Return a PUSH socket that is connected to the images' (0) or the positions' (1) endpoint."""
        socket = self._stack.enter_context(self._context.socket(zmq.PUSH))
        socket.set(zmq.LINGER, 0)
        socket.connect(self.app.intakes[source].source.endpoint)
        return socket

    def messages(self, **plan: Any) -> list[list[bytes]]:
        """Return the detector's messages of the small scan."""
        told = ReplayPlan(**{"scan": "tiny", "format": self.format, **plan})
        return [message.parts for message in messages(self._scan, told)]

    def replay(self, **plan: Any) -> None:
        """Stream the small scan to the service; positions go to their own socket if it has one."""
        to, *positions_to = (intake.source.endpoint for intake in self.app.intakes)
        positions = "stream" if positions_to else "start"
        told = ReplayPlan(**{"scan": "tiny", "format": self.format, "positions": positions, **plan})
        run_replay(self._scan, told, Destination(to, *positions_to))

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def report(self, scan: str = "tiny") -> dict[str, Any] | None:
        answer = self.http.get(f"/api/scans/{scan}")
        return answer.json() if answer.is_success else None

    def stitched(self, scan: str = "tiny") -> int:
        run = self.app.runs.get(scan)
        return 0 if run is None else run.ledger.counts().stitched

    def finished(self, scan: str = "tiny") -> ScanRun:
        """Wait until the scan is over and its result written; its ledger must balance."""
        until(lambda: self.app.store.file(scan), f"the result of {scan}")
        run = self.app.runs.get(scan)
        assert run is not None
        assert run.ledger.counts().balanced, run.ledger.counts()
        return run

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return Prometheus' samples: name → values of the labels → number."""
        samples: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.http.get("/metrics").text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return samples


@pytest.fixture
def serve(tiny_bundle: Path, tiny_file: ScanFile, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services with the small bundle on free ports; they end with the test."""
    services = []

    def start(**settings: Any) -> Service:
        told = {
            "images": LOOPBACK, "images_bind": True, "bundle": str(tiny_bundle), "threads": 1, "port": 0,
            "results": str(tmp_path / "results"), "end_grace_s": 0.3, "join_deadline_s": 10.0,
        }  # fmt: skip
        services.append(Service(Settings(**{**told, **settings}), tiny_file))
        return services[-1]

    yield start
    for service in services:
        service.stop()
