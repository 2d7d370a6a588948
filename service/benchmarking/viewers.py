"""`ptycholive bench --viewers N`: what people who watch cost the stream.

The same scan is streamed to the same service with and without viewers, in turns. Its rate tells what the
stream lost on this machine, on which the viewers run too; the service's own processor time a frame tells what
it would lose with the viewers elsewhere. Both are as noisy as the machine. The time of the threads that serve
viewers is less so.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from service.benchmarking.timing import Say
from service.client import Live
from service.loopback import FREE, detector, service_process
from service.web.http import THREAD

_PATIENCE_S = 300.0
_POLL_S = 0.5  # each costs the threads that serve viewers milliseconds
# Without refinement, which would take what time is left.
_OPTIONS = ("--no-refine", "--images", FREE, "--images-bind", "--positions", FREE, "--positions-bind")


@dataclass(frozen=True, slots=True)
class _Service:
    url: str
    pid: int

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:  # noqa: S310 - our own service
            return json.load(answer)

    def endpoints(self) -> tuple[str, str]:
        images, positions = (source["endpoint"] for source in self.get("/api/status")["sources"])
        return images, positions

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def web_s(self) -> float:
        """Seconds of processor time of the threads that serve viewers, so far."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        serving = [task for task in tasks if (task / "comm").read_text().strip() == THREAD]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in serving) / 1e9


@dataclass(frozen=True, slots=True)
class _Streamed:
    """One scan: frames a second; seconds of processor time a frame; and a second, of viewers' threads."""

    rate_hz: float
    cpu_s: float
    web_cores: float


def measure_viewers(
    scan: Path, bundle: str, viewers: int, rounds: int, rate_hz: float, say: Say
) -> dict[str, float]:
    """Return rate and processor time a frame without and with viewers, medians over rounds, and costs.

    Each round gives one cost of its own, since machines slow down and speed up; the standard error says how
    much they differ.

    Args:
        scan: file to stream.
        bundle: model.
        viewers: how many watch at once.
        rounds: times each is taken.
        rate_hz: of the detector; 0 as fast as frames are taken.
        say: takes a line.
    """
    taken: dict[int, list[_Streamed]] = {0: [], viewers: []}
    with service_process(bundle, *_OPTIONS) as (url, pid):
        service = _Service(url, pid)
        _stream(service, scan, rate_hz, "warm-up")
        for number in range(rounds):
            for watching, figures in taken.items():
                with _watched(service.url, watching):
                    figures.append(_stream(service, scan, rate_hz, f"round-{number}-{watching}"))
    alone, watched = (_medians(figures) for figures in taken.values())
    cost_of_rate, cost_of_cpu, cost_in_cores = _costs(*taken.values())
    cores = len(os.sched_getaffinity(0))
    told = {
        "viewers": viewers,
        "rate_hz_alone": alone.rate_hz,
        "rate_hz_watched": watched.rate_hz,
        "cpu_ms_a_frame_alone": 1e3 * alone.cpu_s,
        "cpu_ms_a_frame_watched": 1e3 * watched.cpu_s,
        "cost_of_rate": cost_of_rate.mean,
        "cost_of_rate_error": cost_of_rate.error,
        "cost_of_cpu": cost_of_cpu.mean,
        "cost_of_cpu_error": cost_of_cpu.error,
        "share_of_cores": cost_in_cores.mean / cores,
        "share_of_cores_error": cost_in_cores.error / cores,
    }
    say(
        f"without viewers: {alone.rate_hz:.1f} frames/s, {1e3 * alone.cpu_s:.2f} ms of processor time a frame"
    )
    say(f"{viewers} viewers: {watched.rate_hz:.1f} frames/s, {1e3 * watched.cpu_s:.2f} ms")
    say(f"they cost {cost_of_rate} of the rate, {cost_of_cpu} more time a frame,")
    share = _Cost(told["share_of_cores"], told["share_of_cores_error"])
    say(f"the threads that serve them take {share} of the {cores} cores")
    return told


class _Cost(NamedTuple):
    """A share, and the standard error of its mean."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.1%} ± {self.error:.1%}"


def _costs(alone: list[_Streamed], watched: list[_Streamed]) -> tuple[_Cost, _Cost, _Cost]:
    """Return what viewers cost of the rate, in processor time a frame, and in cores of theirs, by rounds."""
    pairs = list(zip(alone, watched, strict=True))
    return (
        _cost([1 - with_them.rate_hz / without.rate_hz for without, with_them in pairs]),
        _cost([with_them.cpu_s / without.cpu_s - 1 for without, with_them in pairs]),
        _cost([with_them.web_cores - without.web_cores for without, with_them in pairs]),
    )


def _cost(shares: list[float]) -> _Cost:
    spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
    return _Cost(statistics.mean(shares), spread / len(shares) ** 0.5)


def _medians(figures: list[_Streamed]) -> _Streamed:
    columns = ([getattr(each, name) for each in figures] for name in ("rate_hz", "cpu_s", "web_cores"))
    return _Streamed(*map(statistics.median, columns))


def _stream(service: _Service, scan: Path, rate_hz: float, name: str) -> _Streamed:
    """Stream a scan."""
    before_s, web_before_s, begun_s = service.cpu_s(), service.web_s(), time.monotonic()
    with detector(service.endpoints(), scan, rate_hz, name=name):
        report = _finished(service, name)
    took_s = time.monotonic() - begun_s
    return _Streamed(
        rate_hz=report["rates"]["mean_frames_per_s"],
        cpu_s=(service.cpu_s() - before_s) / report["ledger"]["stitched"],
        web_cores=(service.web_s() - web_before_s) / took_s,
    )


def _finished(service: _Service, name: str) -> dict[str, Any]:
    patience_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patience_s:
        if any(each["scan"] == name and each["finished"] for each in service.get("/api/scans")):
            found: dict[str, Any] = service.get(f"/api/scans/{name}")
            return found
        time.sleep(_POLL_S)
    raise TimeoutError(f"scan {name} was not finished within {_PATIENCE_S:.0f} s")


@contextmanager
def _watched(url: str, viewers: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(viewers):
            stack.enter_context(Live(url, level=None))
        yield
