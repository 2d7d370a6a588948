"""What alerts need to know beside the counts: whether a scan runs, what waits, and how much room there is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import LedgerTotals, Metrics, Standing

STANDING = Standing(
    scan_running=True, residual_limit=0.2, inbox_bytes=90, inbox_limit_bytes=100, recording=True,
    recording_lost_frames=3, disk_free_bytes={"results": 10, "record": 20},
)  # fmt: skip


def samples(standing: Standing) -> dict[tuple[str, ...], float]:
    """Return (sample, values of its labels) → number, as Prometheus reads them."""
    metrics = Metrics(LedgerTotals, dict)
    metrics.tell_standing(lambda: standing)
    families = text_string_to_metric_families(metrics.exposition()[0].decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.mark.parametrize(
    ("sample", "number"),
    [
        (("ptycholive_scan_running",), 1),
        (("ptycholive_forward_residual_limit",), 0.2),
        (("ptycholive_inbox_bytes",), 90),
        (("ptycholive_inbox_limit_bytes",), 100),
        (("ptycholive_recording",), 1),
        (("ptycholive_recording_lost_frames_total",), 3),
        (("ptycholive_disk_free_bytes", "results"), 10),
        (("ptycholive_disk_free_bytes", "record"), 20),
    ],
)
def test_how_things_stand_is_told(sample, number):
    assert samples(STANDING)[sample] == number


def test_between_scans_no_scan_runs():
    assert samples(replace(STANDING, scan_running=False))["ptycholive_scan_running",] == 0


def test_a_bundle_without_calibration_has_no_limit():
    assert ("ptycholive_forward_residual_limit",) not in samples(replace(STANDING, residual_limit=None))


def test_each_command_block_of_the_page_is_marked_as_one_that_needs_an_engine():
    page = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
    before_blocks = re.findall(r"(?:^|\n)([^\n]*)\n\n {4}\S", page)
    assert len(before_blocks) == 6
    assert all("*engine*" in line for line in before_blocks)
