"""Prometheus looks at the real service: what it counts, what alarms, and what the dashboard can draw."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/dashboards/ptycholive.json"
GRAFANAS = {"$instance": ".*", "$__rate_interval": "1m"}
OF_THE_GPU_EXPORTER = re.compile("DCGM_FI_")
FRAMES = 120


def expressions() -> dict[str, str]:
    """Return every PromQL expression of the dashboard by its panel, Grafana's variables filled in."""
    board = json.loads(DASHBOARD.read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }
    found |= {f"annotation {one['name']}": one["expr"] for one in board["annotations"]["list"]}
    for variable, value in GRAFANAS.items():
        found = {where: told.replace(variable, value) for where, told in found.items()}
    return found


@pytest.fixture(scope="module")
def taken(service, prometheus, processes):
    """The report of a scan that lost frames on the way, and that Prometheus has seen."""
    report = service.take("watched", frames=FRAMES, faults="drop=0.1,seed=1")
    stitched = report["ledger"]["stitched"]
    count = 'ptycholive_frames_total{stage="stitched"}'
    processes.until(lambda: prometheus.value(count) == stitched, "Prometheus has seen the scan")
    return report


def test_prometheus_counts_what_the_ledger_counts(taken, prometheus):
    ledger = taken["ledger"]
    for stage in ("expected", "received", "stitched"):
        assert prometheus.value(f'ptycholive_frames_total{{stage="{stage}"}}') == ledger[stage]
    assert prometheus.value("ptycholive_frames_dropped_total") == sum(ledger["dropped"].values()) > 0


def test_frames_that_never_arrived_fire_the_alert_and_no_other(taken, prometheus, processes):
    processes.until(
        lambda: prometheus.firing() == {"PtycholiveDroppedFrames"}, "the alert of lost frames fires"
    )


@pytest.mark.usefixtures("taken")
def test_prometheus_understands_every_expression_of_the_dashboard(prometheus):
    refused = {
        where: answer.text
        for where, told in expressions().items()
        if not (answer := prometheus.get("/api/v1/query", query=told)).is_success
    }
    assert refused == {}


@pytest.mark.usefixtures("taken")
def test_what_the_dashboard_draws_is_what_the_service_tells(service):
    told = set(service.metrics())
    drawn = {name for text in expressions().values() for name in re.findall(r"\bptycholive_\w+", text)}
    # Two counters are born with their first event, which this scan had no reason for.
    unborn = {"ptycholive_messages_refused_total"}
    assert drawn - unborn <= told
    assert len(drawn) > 15


@pytest.mark.usefixtures("taken")
def test_every_panel_has_data_once_a_scan_was_taken(prometheus, processes):
    drawn = {where: text for where, text in expressions().items() if not OF_THE_GPU_EXPORTER.search(text)}

    def only_refusals_are_missing() -> bool:
        return {where for where, text in drawn.items() if prometheus.value(text) is None} == {"Refused A"}

    processes.until(
        only_refusals_are_missing, "all but the panel of refused messages, of which there were none"
    )


def test_a_service_that_goes_away_is_down(taken, service, prometheus, processes):
    service.process.kill()
    processes.until(lambda: prometheus.value('up{job="ptycholive"}') == 0, "Prometheus misses the service")
    processes.until(lambda: "PtycholiveDown" in prometheus.firing(), "the alert fires after half a minute")
