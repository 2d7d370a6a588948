"""Latency against load: from a beam that trickles to one that is faster than the service."""

from __future__ import annotations

from typing import Any, Final

from service.benchmarking.end_to_end import latency, streamed
from service.benchmarking.journey import Subject, stand
from service.benchmarking.timing import BATCH, Say

SHARES: Final = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2)
_FEWEST: Final = 32  # frames of a point


def load_curve(
    subject: Subject, point_s: float, say: Say, shares: tuple[float, ...] = SHARES
) -> dict[str, Any]:
    """Return latencies against load, as shares of the rate that the service reached just before.

    Args:
        subject: what is streamed; no point streams more of it than once.
        point_s: how long a point streams at most.
        say: takes a line.
        shares: loads.

    Returns:
        service_hz, batch_s (a full batch at that rate) and points: load, rate_hz, frames, p50_s, p99_s and
        p99_batches, the p99 in times of a full batch.
    """
    with stand(subject) as service:
        fullest = streamed(service)
        most, batch_s = fullest.frames, BATCH / fullest.rate_hz
        say(f"service, as fast as possible: {fullest.rate_hz:.1f} frames/s; a batch: {batch_s * 1e3:.0f} ms")
        say(f"{'load':>6}{'frames/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'p99 in batches':>16}")
        points = []
        for share in shares:
            rate_hz = share * fullest.rate_hz
            frames = min(most, max(_FEWEST, round(rate_hz * point_s)))
            point = latency(service, rate_hz, frames)
            p99_batches = point["p99_s"] / batch_s
            points.append({"load": share, "frames": frames, **point, "p99_batches": p99_batches})
            say(
                f"{share:>6.0%}{rate_hz:>10.1f}{point['p50_s'] * 1e3:>9.1f}{point['p99_s'] * 1e3:>9.1f}"
                f"{p99_batches:>16.2f}"
            )
    return {"service_hz": fullest.rate_hz, "batch_s": batch_s, "points": points}
