"""Every alert that is shipped, fired by a real Prometheus at a service that is as badly off as it can be."""

from __future__ import annotations

from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import yaml
from answering import answering

from service.metrics import LedgerTotals, Metrics, Standing

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules.yaml"
SLOWEST_RULE_S = 240.0  # it has to hold for two minutes
NOBODY = "127.0.0.1:9"

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * SLOWEST_RULE_S)]


def badly_off() -> Metrics:
    """Return the metrics of a service with every trouble there is; some grow with each look at them."""
    totals = LedgerTotals()
    totals.stages["received"] = 500
    totals.dropped = Counter(never_arrived=4)
    metrics, looks = Metrics(lambda: totals, dict), count()

    def standing() -> Standing:
        look = next(looks)
        metrics.frame_to_mosaic_seconds.observe(5.0)
        return Standing(
            scan_running=True, residual_limit=0.2, inbox_bytes=90, inbox_limit_bytes=100, recording=True,
            recording_lost_frames=look, disk_free_bytes={"results": 10**10, "record": 10**10 - 10**7 * look},
        )  # fmt: skip

    metrics.forward_residual.set(0.3)
    metrics.refused.labels("tcp://detector:31001").inc()
    metrics.tell_standing(standing)
    return metrics


@pytest.fixture(scope="module")
def exporter():
    """The address at which the badly-off service tells its metrics."""
    metrics = badly_off()
    with answering(lambda _: (200, metrics.exposition()[0])) as address:
        yield address


def test_a_real_prometheus_fires_every_alert_that_is_shipped(watch, exporter, processes):
    prometheus = watch(exporter, NOBODY)
    alerts = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    processes.until(lambda: prometheus.firing() == alerts, "all alerts fire", timeout_s=SLOWEST_RULE_S)
