"""All that `ptycholive bench` measures, in one run on one machine."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.scans import open_scan
from service.benchmarking.end_to_end import SERVICE, end_to_end, latencies
from service.benchmarking.footprint import installed_mib, memory_mib, ready_s
from service.benchmarking.journey import Subject
from service.benchmarking.peers import Peers, peers_of
from service.benchmarking.race import engines, race
from service.benchmarking.stages import Floors, bandwidth_bytes_per_s, measure_stages
from service.benchmarking.timing import Say
from service.engines.graph import cores
from service.workforce import load_engine


@dataclass(frozen=True, slots=True)
class Effort:
    """How long it may take.

    Attributes:
        rounds: times each rate is taken; the median is told.
        frames: of the scan that are streamed; None: all.
        raced: frames that the networks are given each time.
        scans: that the service's memory is looked at after.
        point_s: how long a point of the load curve streams.
    """

    rounds: int = 5
    frames: int | None = None
    raced: int = 64
    scans: int = 20
    point_s: float = 10.0


QUICK: Final = Effort(rounds=1, frames=32, raced=8, scans=2, point_s=0.2)
"""To see that all of it runs; its figures mean little."""


def run_benchmark(scan: Path, bundle: str, threads: int, effort: Effort, say: Say) -> dict[str, Any]:
    """Measure everything, telling each figure as it comes; return them all.

    Args:
        scan: file to stream.
        bundle: model.
        threads: of the engine and of its peers; 0: one a core.
        effort: how long it may take.
        say: takes a line.

    Raises:
        ConfigError, EngineError: the bundle or the peers do not run.
    """
    subject = Subject(scan, bundle, threads, effort.frames)
    with open_scan(scan) as opened:
        frames, positions_m = opened.frames()[: effort.frames], opened.positions_m[: effort.frames]
    engine = load_engine(bundle, threads)
    figures: dict[str, Any] = {
        "machine": machine(), "bundle": bundle, "frames": list(frames.shape), "threads": threads or cores(),
        "engine": f"{engine.backend}, {engine.device}",
    }  # fmt: skip
    say(f"{figures['machine']}; {figures['engine']}, {figures['threads']} threads")
    with peers_of(subject, effort.raced, engine.device.partition(":")[0], say) as peers:
        floors = _floors(peers, engine.bundle.description.name, effort.rounds)
        figures["stages"] = measure_stages(engine, frames, positions_m, floors, effort.rounds, say)
        runs, ours = engines(engine, peers, frames[: effort.raced], threads)
        figures["networks"] = race(runs, effort.rounds, ours, say)
        whole = end_to_end(engine, peers, subject, frames, effort.rounds, say)
    figures["end_to_end"] = whole
    figures["latency"] = latencies(subject, whole[SERVICE]["rate_hz"], say)
    figures["memory_mib"] = memory_mib(subject, effort.scans, say)
    figures["ready_s"] = ready_s(bundle, effort.rounds, say)
    figures["installed_mib"] = installed_mib()
    say(f"installed size of ptycholive[cpu] with all it needs: {figures['installed_mib']:.0f} MiB")
    return figures


def machine() -> str:
    """Return a line that names the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (named := re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())):
        model = named[1]
    return f"{model}, {cores()} cores, {platform.system()}, Python {platform.python_version()}"


def _floors(peers: Peers | None, network: str, rounds: int) -> Floors:
    bandwidth = bandwidth_bytes_per_s(rounds)
    if peers is None:
        return Floors(bandwidth)
    return Floors(bandwidth, peers.peak_flop_per_s, peers.operations.get(network))
