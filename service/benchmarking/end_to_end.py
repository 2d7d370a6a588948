"""The whole service through real sockets, beside its bare engine and beside a naive script.

The detector's process works on the same cores and takes its share of them. So the engine is timed twice:
alone, and while a detector streams the same frames to nobody; the second tells what the service costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from service.benchmarking.journey import Stand, Subject, ignored_detector, stand
from service.benchmarking.peers import Peers
from service.benchmarking.race import Standings, inferring, race
from service.benchmarking.timing import Say, Spent
from service.engine import Engine

SERVICE: Final = "service, from socket to mosaic"
_LOADS: Final = (0.5, 0.8)


def end_to_end(
    engine: Engine, peers: Peers | None, subject: Subject, frames: NDArray[Any], rounds: int, say: Say
) -> Standings:
    """Return rates of the service, of its bare engine and of a naive script, taken in turns.

    Args:
        engine: of the service.
        peers: that stand beside it.
        subject: what is streamed.
        frames: (n, H, W) counts of the same.
        rounds: times each is taken.
        say: takes a line.
    """
    alone = inferring(engine, frames)
    runs: dict[str, Callable[[], Spent]] = {
        SERVICE: lambda: _served(subject),
        "bare engine, alone": alone,
        "bare engine, while a detector streams": lambda: _beside_detector(subject, alone),
    }
    if peers is not None and peers.script is None:
        say("no naive script: it unpacks with dectris-compression, the extra `fast`, which is not installed")
    elif peers is not None:
        runs[f"naive script, {peers.script}"] = peers.run_script
    return race(runs, rounds, [SERVICE], say)


def latencies(subject: Subject, service_hz: float, say: Say) -> dict[str, dict[str, float]]:
    """Return how long frames take from the socket to the mosaic, by the load."""
    told = {}
    for share in _LOADS:
        with stand(subject) as service:
            point = told[f"{share:.0%}"] = latency(service, share * service_hz, subject.frames)
        say(
            f"frame to mosaic at {point['rate_hz']:.0f} frames/s: "
            f"p50 {point['p50_s'] * 1e3:.0f} ms, p99 {point['p99_s'] * 1e3:.0f} ms"
        )
    return told


def latency(service: Stand, rate_hz: float, frames: int | None) -> dict[str, float]:
    """Stream at a rate; return it with the percentiles of the seconds from the socket to the mosaic."""
    rates = service.stream(rate_hz, frames).rates
    p50_s, p99_s = (rates.latency_s(percentile) or 0.0 for percentile in (50, 99))
    return {"rate_hz": rate_hz, "p50_s": p50_s, "p99_s": p99_s}


def streamed(service: Stand) -> Spent:
    """Stream as fast as frames are taken; return what it took from the first arrival to the last stitch."""
    at_work_s = time.process_time()
    run = service.stream(rate_hz=0)
    at_work_s = time.process_time() - at_work_s
    frames = run.ledger.counts().stitched
    return Spent(frames, frames / (run.rates.mean_hz() or 0.0), at_work_s)


def _served(subject: Subject) -> Spent:
    with stand(subject) as service:
        return streamed(service)


def _beside_detector(subject: Subject, run: Callable[[], Spent]) -> Spent:
    with ignored_detector(subject):
        return run()
