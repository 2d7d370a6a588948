"""Several engines side by side: batches go out and come back in any order, and none is lost with a worker."""

import math
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from model.bundle import load_bundle
from service.check import check_all
from service.config import Settings
from service.engines.graph import blank_frames
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import EngineError, WorkerLostError
from service.messages import ScanEnd
from service.pool import EACH, EnginePool, ThreadWorker, Worker

FRAMES = 64
END_S = 3.0  # after which the scan is over, whatever is on its way


class HandWorker(Worker):
    """A worker whose batches run with a real engine when the test says so."""

    def __init__(self, name, engine):
        super().__init__(name)
        self.held = []
        self._engine = engine

    def infer(self, counts):
        found = Future()
        self.held.append((counts, found))
        return found

    def run(self):
        counts, found = self.held.pop(0)
        found.set_result(self._engine.infer(counts))

    def die(self):
        held, self.held = self.held, []
        for _, found in held:
            found.set_exception(WorkerLostError("its process was killed"))

    def close(self):
        assert not self.held


class Phoenix(HandWorker):
    """One that may come back."""

    def revive(self):
        self.back = Future()
        return self.back


class FrailEngine:
    """A real engine that takes its time; its machine may go down after some batches."""

    def __init__(self, engine, delay_s=0.0, batches=math.inf):
        self.bundle, self.backend, self.device = engine.bundle, engine.backend, engine.device
        self._engine = engine
        self._delay_s = delay_s
        self._left = batches

    def infer(self, counts):
        time.sleep(self._delay_s)
        if self._left == 0:
            raise WorkerLostError("its machine went down")
        self._left -= 1
        return self._engine.infer(counts)


class WatchedPool(EnginePool):
    """A pool that notes how many batches were ever on their way together."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.given = []
        self.together = 0

    def submit(self, counts):
        self.given.append(super().submit(counts))
        self.together = max(self.together, sum(not found.done() for found in self.given))
        return self.given[-1]


@pytest.fixture
def pool_of(tiny_engine):
    """Return what makes a pool of workers, and the list of what the operator is told of lost ones."""
    told, pools = [], []

    def make(*workers, engine=tiny_engine):
        pools.append(WatchedPool(engine.bundle, engine.backend, engine.device, workers, told.append))
        return pools[-1], told

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def two(tiny_engine, pool_of):
    """Return two workers by hand, their pool, and what the operator is told."""
    workers = [HandWorker(name, tiny_engine) for name in ("first", "second")]
    return (*workers, *pool_of(*workers))


@pytest.fixture
def batches(tiny_bundle):
    """Return five batches of one frame; that of batch k has k + 1 photons in every pixel."""
    blank = blank_frames(load_bundle(tiny_bundle), 1)
    return [blank + k + 1 for k in range(5)]


def threads(engine, **frailties):
    return [ThreadWorker(FrailEngine(engine, **frailty)) for frailty in frailties.values()]


def counts_held(worker):
    return [int(counts.max()) for counts, _ in worker.held]


def test_each_worker_holds_two_batches_and_the_rest_wait_for_whoever_is_free(two, batches):
    first, second, pool, _ = two
    found = [pool.submit(counts) for counts in batches]
    assert (counts_held(first), counts_held(second)) == ([1, 3], [2, 4])
    second.run()
    assert (counts_held(second), [one.done() for one in found]) == ([4, 5], [False, True] + [False] * 3)
    for worker in (first, first, second, second):
        worker.run()
    assert all(one.done() for one in found)


def test_the_batches_of_a_lost_worker_go_to_the_other(two, batches, tiny_engine):
    first, second, pool, told = two
    found = [pool.submit(counts) for counts in batches]
    first.die()
    assert pool.here == 1
    assert "first is lost, others take its batches" in told[0]
    assert "first does not come back" in told[1]
    while second.held:
        second.run()
    for counts, one in zip(batches, found, strict=True):
        np.testing.assert_array_equal(one.result().amplitude, tiny_engine.infer(counts).amplitude)


def test_batches_wait_while_the_only_worker_is_started_anew(tiny_engine, pool_of, batches):
    phoenix = Phoenix("only", tiny_engine)
    pool, told = pool_of(phoenix)
    found = pool.submit(batches[0])
    phoenix.die()
    assert (pool.here, found.done(), len(told)) == (0, False, 1)
    phoenix.back.set_result(None)
    phoenix.run()
    assert (pool.here, found.result().amplitude.shape) == (1, (1, 16, 16))


def test_with_no_worker_left_batches_fail_and_say_so(two, batches):
    first, second, pool, told = two
    found = pool.submit(batches[0])
    first.die()
    second.die()
    with pytest.raises(EngineError, match="no worker is left"):
        found.result()
    with pytest.raises(EngineError, match="no worker is left"):
        pool.infer(batches[1])
    assert (pool.here, len(told)) == (0, 4)


def test_a_batch_that_takes_one_worker_after_the_other_down_is_given_up(tiny_engine, pool_of, batches):
    workers = [HandWorker(str(number), tiny_engine) for number in range(5)]
    pool, _ = pool_of(*workers)
    poison = pool.submit(batches[0])
    while not poison.done():
        next(worker for worker in workers if worker.held).die()
    assert "3 workers were lost" in str(poison.exception())
    assert pool.here == 2


def test_an_engine_that_fails_with_a_batch_takes_the_next_one(tiny_engine, pool_of, batches):
    pool, _ = pool_of(ThreadWorker(tiny_engine))
    with pytest.raises(EngineError, match="does not run"):
        pool.infer(batches[0].astype(np.float64))
    assert pool.infer(batches[1]).amplitude.shape == (1, 16, 16)


def test_the_journey_is_woken_by_every_batch_that_is_done_or_failed(tiny_engine, pool_of, batches):
    pool, _ = pool_of(*threads(tiny_engine, one={}, other={}))
    woken = threading.Semaphore(0)
    pool.wake = woken.release
    wrong = batches[0].astype(np.float64)
    found = [pool.submit(counts) for counts in (*batches[:4], wrong)]
    assert all(woken.acquire(timeout=30) for _ in found)
    assert all(tiles.done() for tiles in found)


def test_engines_of_different_speed_make_the_mosaic_of_a_single_one(journey, stream, pool_of, tiny_engine):
    alone = journey(batch_frames=4).take(stream()).result()
    pool, _ = pool_of(*threads(tiny_engine, slow={"delay_s": 0.02}, quick={"delay_s": 0.001}))
    told = journey(pool, batch_frames=4).take(stream())
    run = told.wait(END_S).result()
    assert run.ledger.counts() == alone.ledger.counts()
    in_order = [painted.tiles.indices[0] for painted in told.painted]
    assert in_order != sorted(in_order)
    for channel in ("amplitude", "phase", "coverage"):
        np.testing.assert_allclose(run.mosaic.image(channel), alone.mosaic.image(channel), atol=1e-5)
    assert pool.together == pool.most == 2 * EACH


def test_a_batch_on_its_way_is_not_stitched_and_comes_into_the_mosaic_at_its_time(
    journey, stream, pool_of, tiny_engine
):
    hand = HandWorker("hand", tiny_engine)
    pool, _ = pool_of(hand)
    told = journey(pool, batch_frames=16, batch_deadline_s=60.0)
    told.take([event for event in stream()[:40] if not isinstance(event, ScanEnd)])
    assert told.run.state().ledger.stitched.tolist() == []
    hand.run()
    told.wait(0.02)
    assert told.run.state().ledger.stitched.tolist() == list(range(16))
    while hand.held:
        hand.run()


def test_a_swap_in_mid_scan_waits_for_the_batches_that_the_old_model_has(
    journey, stream, pool_of, tiny_engine, bundle_maker, tmp_path
):
    brighter = OnnxRuntimeEngine(load_bundle(bundle_maker(tmp_path, "brighter", gain=2.0)), threads=1)
    old, _ = pool_of(*threads(tiny_engine, one={"delay_s": 0.01}, other={"delay_s": 0.02}))
    new, _ = pool_of(*threads(brighter, one={}, other={}), engine=brighter)
    told = journey(old, batch_frames=4, batch_deadline_s=60.0).take(stream()[:33])
    told.swap(new)
    before = len(told.painted)
    run = told.take(stream()[33:]).wait(END_S).result()
    assert (run.ledger.counts().stitched, run.model) == (FRAMES, "brighter")
    brightness = [painted.tiles.amplitude.mean() for painted in told.painted]
    assert np.min(brightness[before:]) > 1.5 * np.max(brightness[:before])


def test_a_scan_loses_nothing_with_a_worker(journey, stream, pool_of, tiny_engine):
    pool, told = pool_of(*threads(tiny_engine, frail={"batches": 2}, sound={}))
    run = journey(pool, batch_frames=4).take(stream()).wait(END_S).result()
    assert (run.ledger.counts().stitched, run.ledger.counts().dropped) == (FRAMES, {})
    assert "lost" in told[0]


def test_the_ledger_stays_exact_when_all_workers_are_lost(journey, stream, pool_of, tiny_engine):
    pool, _ = pool_of(*threads(tiny_engine, one={"batches": 2}, other={"batches": 1}))
    run = journey(pool, batch_frames=4).take(stream()).wait(END_S).result()
    counts = run.ledger.counts()
    assert (counts.stitched, counts.dropped) == (12, {"engine_failed": FRAMES - 12})
    assert "no worker is left" in run.warnings["engine_failed"]


def test_a_service_runs_its_model_on_several_engines(serve):
    running = serve(workers=2, batch_frames=4)
    assert running.get("/api/status")["engine"] == {"backend": "onnxruntime", "device": "2 × cpu"}
    running.replay()
    assert running.finished().ledger.counts().stitched == FRAMES
    assert running.metrics()["ptycholive_workers"] == {(): 2}
    assert running.metrics()["ptycholive_workers_lost_total"] == {(): 0}


def test_check_says_what_the_workers_run_on(tiny_bundle):
    findings = check_all(Settings(bundle=str(tiny_bundle), workers=2, threads=1), 0.01)
    engine = next(finding for finding in findings if finding.what == "engine")
    assert engine.verdict == "OK"
    assert "onnxruntime on 2 × cpu, one runs" in engine.detail
