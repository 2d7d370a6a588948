"""What Prometheus scrapes, read with Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.ledger import LedgerCounts
from service.metrics import LedgerTotals, Metrics

COUNTS = LedgerCounts(10, 9, 8, 7, 6, 5, 1, {"never_arrived": 2, "no_position": 3})


@pytest.fixture
def totals():
    return LedgerTotals()


@pytest.fixture
def metrics(totals):
    return Metrics(lambda: totals, lambda: {"inbox": 4, "join": 2})


def samples(metrics):
    """Return sample name → labels → number."""
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_frames_are_counted_by_stage_and_by_reason(metrics, totals):
    totals.add(COUNTS)
    totals.add(COUNTS)
    found = samples(metrics)
    assert found["ptycholive_frames_total"] == {
        ("expected",): 20, ("received",): 18, ("decoded",): 16, ("joined",): 14,
        ("inferred",): 12, ("stitched",): 10, ("duplicates",): 2,
    }  # fmt: skip
    assert found["ptycholive_frames_dropped_total"] == {("never_arrived",): 4, ("no_position",): 6}


def test_a_scan_of_unknown_length_expects_nothing_yet(metrics, totals):
    totals.add(LedgerCounts(None, 1, 1, 0, 0, 0, 0, {}))
    assert samples(metrics)["ptycholive_frames_total"]["expected",] == 0


def test_every_stage_is_there_before_the_first_frame(metrics):
    assert set(samples(metrics)["ptycholive_frames_total"].values()) == {0}


def test_the_queues_are_told(metrics):
    assert samples(metrics)["ptycholive_queue_frames"] == {("inbox",): 4, ("join",): 2}


def test_latencies_fall_into_buckets_from_a_tenth_of_a_millisecond_to_ten_seconds(metrics):
    for seconds in (5e-5, 0.003, 4.0, 60.0):
        metrics.frame_to_mosaic_seconds.observe(seconds)
        metrics.stage_seconds("infer", seconds)
    found = samples(metrics)
    buckets = found["ptycholive_frame_to_mosaic_seconds_bucket"]
    assert (buckets["0.0001",], buckets["0.005",], buckets["10.0",], buckets["+Inf",]) == (1, 2, 3, 4)
    assert found["ptycholive_stage_seconds_count"]["infer",] == 4


def test_only_the_engine_in_use_is_told(metrics):
    metrics.engine("onnxruntime", "cpu", "old")
    metrics.engine("onnxruntime", "cpu", "new")
    assert samples(metrics)["ptycholive_engine_info"] == {("onnxruntime", "cpu", "new"): 1}


def test_the_names_are_those_of_the_contract(metrics):
    metrics.refused.labels("tcp://127.0.0.1:1").inc()
    metrics.strays.inc()
    metrics.agreement.set(0.9)
    metrics.confidence.set(0.8)
    metrics.forward_residual.set(0.1)
    metrics.batch_frames.observe(16)
    found = samples(metrics)
    assert found["ptycholive_agreement"] == {(): 0.9}
    assert found["ptycholive_confidence"] == {(): 0.8}
    assert found["ptycholive_forward_residual"] == {(): 0.1}
    assert found["ptycholive_batch_frames_sum"] == {(): 16}
    assert found["ptycholive_messages_refused_total"] == {("tcp://127.0.0.1:1",): 1}
    assert found["ptycholive_stray_frames_total"] == {(): 1}
