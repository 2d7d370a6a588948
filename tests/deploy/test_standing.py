"""What alerts need to know beside the counts: whether a scan runs, what waits, and how much room there is."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import documents
import pytest
from podman import PAGE, documented, documented_block
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


OTHERWISE = {  # what the tests change of a line, and why
    "docker compose --file deploy/compose.yaml --file": "only laid over the stack: no GPU",
    "kubectl create secret": "a dry run: no cluster",
    "kubectl apply": "no cluster: podman runs the pod of the manifest",
    "kubectl patch": "a manifest in a file is patched: no cluster",
}


def typed_by_tests():
    """Return how the lines and blocks of the page begin that the tests of this folder take from it."""
    calls = [
        (getattr(node.func, "id", ""), node.args[0].value)
        for path in Path(__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
    ]
    lines = {documented(beginning) for name, beginning in calls if name == "documented"}
    return lines.union(*(documented_block(told) for name, told in calls if name == "documented_block"))


def test_each_line_of_the_page_is_typed_by_a_test_or_there_is_a_reason():
    of_the_page = set(documents.lines(PAGE))
    excused = {line for line in of_the_page if line.startswith(tuple(OTHERWISE))}
    assert len(excused) == len(OTHERWISE)
    assert of_the_page == typed_by_tests() | excused


def test_each_command_block_of_the_page_is_marked_as_one_that_needs_an_engine():
    before_blocks = re.findall(r"(?:^|\n)([^\n]*)\n\n {4}\S", PAGE.read_text())
    assert len(before_blocks) == len(documents.blocks(PAGE)) > 0
    assert all("*engine*" in line for line in before_blocks)
