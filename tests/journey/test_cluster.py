"""A measured scan through two workers of a Ray cluster, over real sockets; workers are killed on the way."""

from __future__ import annotations

import os
import re
import signal

import numpy as np
import pytest
from processes import balanced, until

pytest.importorskip("ray", reason="the extra cluster is not installed")
pytestmark = pytest.mark.long

WORKERS, FRAMES = 2, 240
LOOK = {"refine": False, "threads": 1}  # at the network's own mosaic


@pytest.fixture(scope="module")
def cluster(serve):
    """A service whose engines are two processes that Ray has started."""
    return serve(cluster="local", workers=WORKERS, **LOOK)


def places(service):
    """Return the processes of the workers, as the service tells them in its log."""
    return [int(number) for number in re.findall(r"worker \d is process (\d+)", service.said())]


def killed_in_mid_scan(service, scan, victims):
    """Kill workers when a quarter of the scan is stitched; return the report of the whole scan."""
    detector = service.replay(scan, frames=FRAMES)
    until(lambda: service.stitched(scan) > FRAMES // 4, "a quarter is stitched")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    detector.wait()
    return service.finished(scan)


def all_stitched(report):
    ledger = report["ledger"]
    return balanced(ledger) and ledger["stitched"] == ledger["expected"] == FRAMES


def test_two_workers_make_the_mosaic_of_one_engine(cluster, serve):
    alone = serve(**LOOK)
    assert all_stitched(cluster.take("star", frames=FRAMES))
    assert all_stitched(alone.take("star", frames=FRAMES))
    for channel in ("amplitude", "phase", "coverage"):
        one, two = alone.mosaic("star", channel), cluster.mosaic("star", channel)
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    assert cluster.get("/api/status")["engine"]["device"] == "2 × cpu"


def test_a_worker_killed_in_mid_scan_costs_no_frame_and_comes_back(cluster):
    assert all_stitched(killed_in_mid_scan(cluster, "one-lost", places(cluster)[:1]))
    assert cluster.metrics()["ptycholive_workers_lost_total"][()] == 1
    assert any("is lost, others take its batches" in line for line in cluster.get("/api/status")["warnings"])
    until(lambda: cluster.metrics()["ptycholive_workers"][()] == WORKERS, "the worker is back")


def test_a_scan_waits_for_workers_that_are_all_started_anew(cluster):
    cluster.http.post("/api/model", json={"bundle": "siemens-star"}, timeout=60).raise_for_status()
    assert all_stitched(killed_in_mid_scan(cluster, "both-lost", places(cluster)[-WORKERS:]))
    assert cluster.end() == 0
