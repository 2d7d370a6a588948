"""What is told of a scan while it runs."""

import tracemalloc

import numpy as np
import pytest

from service.messages import ScanStart, Tiles
from service.scan_run import Rates, iso

SECOND_NS = 1_000_000_000


def steady(rates, frames, rate_hz, latency_s=0.01, first_ns=0):
    """Stitch frames one by one, at a steady rate; return when the last one was."""
    for number in range(frames):
        received_ns = first_ns + round(number * SECOND_NS / rate_hz)
        now_ns = received_ns + round(latency_s * SECOND_NS)
        rates.add(np.array([received_ns]), now_ns)
    return now_ns


def test_the_rate_is_that_of_the_last_two_seconds():
    rates = Rates()
    now_ns = steady(rates, 500, 100)
    assert rates.now_hz(now_ns) == pytest.approx(100, rel=0.02)
    assert rates.now_hz(now_ns + SECOND_NS) == pytest.approx(50, rel=0.02)
    assert rates.now_hz(now_ns + 10 * SECOND_NS) == 0


def test_the_mean_rate_is_over_the_whole_scan():
    rates = Rates()
    steady(rates, 100, 100)
    steady(rates, 100, 25, first_ns=SECOND_NS)
    assert rates.mean_hz() == pytest.approx(200 / 4.97, rel=0.01)


def test_before_the_first_frame_there_are_no_rates():
    rates = Rates()
    assert (rates.mean_hz(), rates.latency_s(50), rates.now_hz(5)) == (None, None, 0)


def test_latencies_are_those_of_the_last_frames_and_the_memory_for_them_is_bounded():
    rates = Rates()
    old, new = np.zeros(60_000, np.int64), np.full(60_000, SECOND_NS)
    rates.add(old, 5 * SECOND_NS)
    rates.add(new, 3 * SECOND_NS)
    assert rates.latency_s(1) == rates.latency_s(99) == pytest.approx(2.0)


def test_placed_frames_are_told_in_the_order_of_their_numbers(journey, stream):
    start, *frames, end = stream()
    run = journey(batch_frames=5).take([start, *frames[::-1], end]).result()
    indices, positions_m = run.placed()
    assert indices.tolist() == list(range(64))
    np.testing.assert_array_equal(positions_m, start.positions_m)


def test_frames_placed_one_by_one_take_little_more_than_their_numbers_and_positions(journey, stream):
    run = journey().take(stream()[:1]).run
    plane = np.ones((1, 1, 1), np.float32)
    tracemalloc.start()
    for number in range(4000):
        one = np.array([number])
        run.note_placed(
            Tiles("tiny", one, np.full((1, 2), number), plane, plane, plane, one), number * SECOND_NS
        )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert run.placed()[1][:, 0].tolist() == list(range(4000))
    assert held / 4000 < 64


def test_a_scan_without_frames_has_a_report_and_no_placed_frames(journey):
    told = journey().take([ScanStart("empty", (32, 32), np.dtype("<u2"))])
    told.close()
    run = told.result()
    report = run.report(0)
    assert run.placed()[1].shape == (0, 2)
    assert report["rates"]["latency_p50_s"] is None
    assert report["ledger"]["expected"] == 0
    assert report["finished"] is not None


def test_only_the_first_warning_about_a_matter_is_kept(journey, stream):
    run = journey().take(stream()[:5]).run
    for number in range(1000):
        run.warn("undecodable", f"frame {number}: cut short")
    assert run.warnings == {"undecodable": "frame 0: cut short"}


def test_the_report_tells_geometry_ledger_and_times(journey, stream):
    run = journey().take(stream()).result()
    report = run.report(0)
    assert report["geometry"]["object_pixel_m"] == pytest.approx(1e-8)
    assert report["geometry"]["frame_shape"] == [32, 32]
    assert report["ledger"] == run.ledger.counts().as_dict()
    assert report["ledger_words"] == "64 of 64 frames stitched"
    assert (report["started"], report["model"]) == ("1970-01-01T00:01:40.000+00:00", "tiny")
    assert report["forward_residual"] > 0
    assert report["agreement"] == pytest.approx(1.0)
    assert {key: report[key] for key in run.summary()} == run.summary()


def test_tiles_count_for_the_rates_only_when_there_are_some(journey, stream):
    run = journey().take(stream()[:1]).run
    none = np.zeros((0, 16, 16), np.float32)
    nobody = np.zeros(0, np.int64)
    run.note_placed(Tiles("tiny", nobody, np.zeros((0, 2)), none, none, none, nobody), 5)
    assert run.rates.mean_hz() is None


def test_times_are_told_in_utc():
    assert iso(1_500_000_000) == "1970-01-01T00:00:01.500+00:00"
    assert iso(None) is None
