"""The service and the detector as processes of their own, as they run at a beamline."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import waiting
import zmq
from prometheus_client.parser import text_string_to_metric_families

SCAN = Path(__file__).parents[2] / "service/data/siemens_star_aps.cxi"
COMMAND = Path(sys.executable).with_name("ptycholive")
FREE = "tcp://127.0.0.1:*"
PATIENCE_S = 60.0  # the machine may be busy

until = partial(waiting.until, timeout_s=PATIENCE_S)


def free_endpoint() -> str:
    """Return a loopback endpoint that nobody uses, for a side that is not up yet."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


def environment() -> dict[str, str]:
    """Return the environment without settings: a test says all that it sets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PTYCHOLIVE_")}


def spawn(arguments: list[object], log: Path) -> subprocess.Popen[bytes]:
    """Start `ptycholive …`; all that it says goes to a file."""
    with log.open("ab") as told:
        return subprocess.Popen(
            [str(part) for part in (COMMAND, *arguments)],
            stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT, env=environment(),
        )  # fmt: skip


def run(*arguments: object, timeout_s: float = 2 * PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run `ptycholive …` to its end."""
    return subprocess.run(
        [str(part) for part in (COMMAND, *arguments)],
        capture_output=True, text=True, timeout=timeout_s, env=environment(), check=False,
    )  # fmt: skip


def flags(settings: dict[str, Any]) -> list[str]:
    """Write settings as flags; True and False as `--name` and `--no-name`."""
    told = []
    for name, value in settings.items():
        dashed = name.replace("_", "-")
        told += [f"--{'' if value else 'no-'}{dashed}"] if isinstance(value, bool) else [f"--{dashed}", value]
    return [str(part) for part in told]


class Detector:
    """`ptycholive replay` of the measured star."""

    def __init__(self, log: Path, settings: dict[str, Any]) -> None:
        self.log = log
        self.process = spawn(["replay", SCAN, *flags(settings)], log)

    def wait(self) -> None:
        """Wait until all is sent."""
        assert self.process.wait(2 * PATIENCE_S) == 0, self.log.read_text()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Service:
    """`ptycholive serve`, and what can be asked of it over HTTP."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.results = folder / "results"
        self.log = folder / "service.log"
        self.detectors: list[Detector] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(trust_env=False)
        self._folder = folder
        self._settings = settings

    def start(self, **changed: Any) -> None:
        """Start it and wait until it is ready."""
        already_said = len(self.said())
        settings = {"port": 0, "results": self.results, **self._settings, **changed}
        self.process = spawn(["serve", *flags(settings)], self.log)
        until(lambda: "model: " in self._said_or_fail()[already_said:], "the service tells where its page is")
        self.url = re.findall(r"page: (\S+)", self.said())[-1]
        self.http.close()
        self.http = httpx.Client(base_url=self.url, trust_env=False)
        until(lambda: self.http.get("/readyz").status_code == 200, "the service is ready")

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def _said_or_fail(self) -> str:
        assert self.process.poll() is None, self.said()
        return self.said()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.http.close()
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        for detector in self.detectors:
            detector.stop()
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def endpoints(self) -> list[str]:
        """Return where images and positions are taken from; the ports are the real ones."""
        return [source["endpoint"] for source in self.get("/api/status")["sources"]]

    def replay(self, scan: str, **settings: Any) -> Detector:
        """Begin to stream the star to it, in the format and to the sockets that it has."""
        to = dict(zip(("to", "positions"), self.endpoints(), strict=False))
        told = {"format": self._settings["images_format"], **to, "scan": scan, **settings}
        detector = Detector(self._folder / f"{scan}.log", told)
        self.detectors.append(detector)
        return detector

    def take(self, scan: str, **settings: Any) -> dict[str, Any]:
        """Let it take a whole scan, and return the report of it."""
        self.replay(scan, **settings).wait()
        return self.finished(scan)

    def get(self, path: str) -> Any:
        return self.http.get(path).raise_for_status().json()

    def report(self, scan: str) -> dict[str, Any] | None:
        """Return what is known of a scan, None before it began."""
        answer = self.http.get(f"/api/scans/{scan}")
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def stitched(self, scan: str) -> int:
        return (self.report(scan) or {"ledger": {"stitched": 0}})["ledger"]["stitched"]

    def finished(self, scan: str) -> dict[str, Any]:
        """Wait until a scan is finished and its result written; return the report of it."""
        until(lambda: (self.report(scan) or {}).get("finished"), f"scan {scan} is finished")
        until(lambda: self.http.get(f"/api/scans/{scan}/result.h5").is_success, "the result is there")
        return self.report(scan) or {}

    def mosaic(self, scan: str, channel: str) -> np.ndarray:
        """Return a channel of a scan's mosaic."""
        query = {"channel": channel, "format": "npy"}
        answer = self.http.get(f"/api/scans/{scan}/mosaic", params=query)
        return np.load(io.BytesIO(answer.raise_for_status().content))

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Return Prometheus' samples: name → values of the labels → number."""
        samples: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.http.get("/metrics").text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return samples


@contextmanager
def services(new_folder: Callable[[], Path]) -> Iterator[Callable[..., Service]]:
    """Give a function that starts services; all end with the block, however it ends.

    Each listens for a detector of DECTRIS and for positions, unless its settings say otherwise.
    """
    running: list[Service] = []

    def serve(**settings: Any) -> Service:
        listening = {"images": FREE, "images_bind": True, "images_format": "dectris-v2"}
        if settings.get("images_format", "dectris-v2") == "dectris-v2":
            listening |= {"positions": FREE, "positions_bind": True}
        running.append(Service(new_folder(), listening | settings))
        running[-1].start()
        return running[-1]

    try:
        yield serve
    finally:
        for service in running:
            service.close()


def balanced(ledger: dict[str, Any]) -> bool:
    """Whether every frame of a finished scan ended in exactly one place, as the contract says it."""
    dropped = ledger["dropped"]
    ended = ledger["stitched"] + sum(dropped.values())
    arrived = ended - dropped.get("never_arrived", 0)
    return ledger["expected"] == ended and ledger["received"] == arrived + ledger["duplicates"]
