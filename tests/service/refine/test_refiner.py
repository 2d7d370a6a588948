"""The thread that refines: only while the stream is quiet, and only so long."""

import threading
import time
from contextlib import contextmanager

import pytest
from waiting import until

from service.refine.refiner import Refiner

PATIENCE_S = 30.0


@contextmanager
def at_work(refiner):
    stopping = threading.Event()
    thread = threading.Thread(target=refiner.work, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def fill(refiner, run, painted, times=1):
    """Give a refiner all frames of a scan, as often as told."""
    for batch in times * painted:
        refiner.add(run, batch)


@pytest.fixture
def run(taken):
    return taken.finished[0]


@pytest.fixture
def begin(loaded_bundle, painted, run):
    """Return what makes a refiner that has all frames of the scan."""

    def made(quiet=lambda: True, frames_mib=64, after_s=1e6):
        refiner = Refiner(quiet, frames_mib, after_s, lambda run: None)
        refiner.begin(run, loaded_bundle)
        fill(refiner, run, painted)
        return refiner

    return made


def test_it_refines_a_scan_while_all_is_quiet(begin, run):
    refiner = begin()
    with at_work(refiner):
        until(lambda: refiner.report(run)["sweeps"] >= 2)
    report = refiner.report(run)
    assert report["residual_after"] < report["residual_before"]
    assert report["seconds"] > 0
    assert refiner.refined(run).bounds() == run.mosaic.bounds()


def test_it_never_begins_while_frames_come(begin, run):
    refiner = begin(quiet=lambda: False)
    with at_work(refiner):
        time.sleep(0.1)
        assert refiner.report(run)["frames"] == 0
        assert refiner.report(run)["state"] == "waiting for the stream to be quiet"


def test_frames_that_come_interrupt_it_within_a_frames_step(begin, run):
    quiet = threading.Event()
    quiet.set()
    asked = []
    refiner = begin(quiet=lambda: asked.append(quiet.is_set()) or quiet.is_set())
    with at_work(refiner):
        until(lambda: refiner.report(run)["sweeps"] >= 1)
        quiet.clear()
        until(lambda: not asked[-1])
        seconds = refiner.report(run)["seconds"]
        time.sleep(0.1)
        assert refiner.report(run)["seconds"] == seconds
        quiet.set()
        until(lambda: refiner.report(run)["seconds"] > seconds)


@pytest.mark.parametrize(("after_s", "sweeps"), [(0.0, 0), (0.05, None)])
def test_a_finished_scan_is_refined_for_a_limited_time(begin, run, after_s, sweeps):
    refiner = begin(after_s=after_s)
    refiner.finish(run)
    with at_work(refiner):
        until(
            lambda: (
                refiner.report(run)["state"]
                in ("stopped: its time was up", "settled: the residual falls no more")
            )
        )
    report = refiner.report(run)
    assert report["seconds"] < after_s + 5  # the limit, and a step on a machine that does much else
    assert sweeps is None or report["sweeps"] == sweeps


def test_the_next_scan_takes_over_and_the_last_keeps_what_it_has(begin, run, journey, stream, loaded_bundle):
    refiner, following = begin(), journey().take(stream()).result()
    with at_work(refiner):
        until(lambda: refiner.report(run)["sweeps"] >= 1)
        refiner.begin(following, loaded_bundle)
        until(lambda: refiner.report(run)["state"] == "stopped: the next scan began")
    assert refiner.refined(run) is not None
    assert refiner.report(following)["frames"] == 0


def test_a_forgotten_scan_leaves_nothing(begin, run):
    refiner = begin()
    with at_work(refiner):
        until(lambda: refiner.report(run)["sweeps"] >= 1)
        refiner.forget_but([])
    assert (refiner.refined(run), refiner.report(run)) == (None, None)


def test_the_operator_is_told_of_frames_that_did_not_fit(begin, run, painted):
    refiner = begin(frames_mib=1)
    assert "refine" not in run.warnings
    fill(refiner, run, painted, times=8)
    assert "refine_mib" in run.warnings["refine"]
    assert refiner.report(run)["left_out"] == 9 * 64 - (1 << 20) // (32 * 32 * 2)


def test_the_operator_is_told_of_tiles_that_are_not_turned_for_want_of_memory(begin, run, painted):
    refiner = begin(frames_mib=1)
    assert "refine_tiles" not in run.warnings
    fill(refiner, run, painted, times=6)
    assert "refine" not in run.warnings
    assert "turned to fit" in run.warnings["refine_tiles"]
    assert refiner.report(run)["unturned"] > 0
    assert refiner.report(run)["left_out"] == 0


def test_a_scan_that_was_never_begun_is_not_refined(run, painted):
    refiner = Refiner(lambda: True, 64, 1.0, lambda run: None)
    refiner.add(run, painted[0])
    refiner.finish(run)
    assert (refiner.refined(run), refiner.report(run)) == (None, None)


def test_a_finished_scan_is_told_once_when_no_more_is_to_be_gained(loaded_bundle, painted, run):
    over = []
    refiner = Refiner(lambda: True, 64, 0.2, over.append)
    refiner.begin(run, loaded_bundle)
    fill(refiner, run, painted)
    with at_work(refiner):
        until(lambda: refiner.report(run)["sweeps"] >= 1)
        assert over == []  # while the scan runs there may be more to come
        refiner.finish(run)
        until(lambda: over)
        time.sleep(0.1)
    assert over == [run]
    assert refiner.report(run)["ended"]
