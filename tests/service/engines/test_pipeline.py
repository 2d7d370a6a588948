"""Batches that overlap on a device. Here the device is this machine's memory, and ONNX Runtime computes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from waiting import until

from service.engines.gpu_engine import GpuEngine
from service.engines.pipeline import OFTEN, UsualSizes
from service.errors import EngineError
from service.pool import as_pool, beside_others

FRAMES = 64
LANES = 3
GREATEST = 16
END_S = 3.0


class HostLane:
    """Memory that a batch is computed in, beside whoever asked for it."""

    def __init__(self, engine, may_compute):
        self._engine = engine
        self._may_compute = may_compute
        self._memory = np.empty((GREATEST, 1, 32, 32), np.uint16)
        self._stream = ThreadPoolExecutor(1)

    def begin(self, counts):
        if counts.min() == np.iinfo(np.uint16).max:
            raise EngineError("the device refuses frames without a valid pixel")
        self._memory[: len(counts)] = counts  # were the last batch still computed, this would spoil it
        self._found = self._stream.submit(self._compute, len(counts))

    def _compute(self, frames):
        assert self._may_compute.wait(30)
        if not self._memory[:frames].any():
            raise EngineError("the device failed with a dark frame")
        return self._engine.infer(self._memory[:frames])

    def finish(self):
        return self._found.result()


class HostEngine(GpuEngine):
    """An engine on that device."""

    backend = "onnxruntime"

    def __init__(self, engine):
        self.may_compute = threading.Event()
        self.may_compute.set()
        lanes = [HostLane(engine, self.may_compute) for _ in range(LANES)]
        super().__init__(engine.bundle, SimpleNamespace(number=0), GREATEST, lanes)


@pytest.fixture
def device(tiny_engine):
    engine = HostEngine(tiny_engine)
    yield engine
    engine.may_compute.set()
    engine.close()


@pytest.fixture
def batches(tiny_file):
    return [tiny_file.frames(slice(k, k + 4))[:, None] for k in range(0, FRAMES, 4)]


def test_each_batch_gets_its_own_tiles_however_many_overlap(device, batches, tiny_engine):
    found = [device.submit(batch) for batch in batches]
    for batch, tiles in zip(batches, found, strict=True):
        np.testing.assert_array_equal(tiles.result().amplitude, tiny_engine.infer(batch).amplitude)


def test_as_many_batches_as_lanes_are_on_their_way_and_the_next_waits(device, batches):
    device.may_compute.clear()
    found = [device.submit(batch) for batch in batches[:LANES]]
    with ThreadPoolExecutor(1) as another:
        waiting = another.submit(device.submit, batches[LANES])
        assert not any(tiles.done() for tiles in found)
        assert not waiting.done()
        device.may_compute.set()
        assert waiting.result().result().amplitude.shape == (4, 16, 16)
    assert all(tiles.done() for tiles in found)


def test_batches_come_back_in_the_order_in_which_they_went(device, batches):
    came = []
    for number, batch in enumerate(batches):
        device.submit(batch).add_done_callback(lambda _, number=number: came.append(number))
    until(lambda: len(came) == len(batches))
    assert came == sorted(came)


@pytest.mark.parametrize("harm", [lambda batch: np.full_like(batch, 65535), np.zeros_like])
def test_a_device_that_refuses_or_fails_with_batches_takes_the_next_ones(device, batches, harm):
    refused = [device.submit(harm(batch)) for batch in batches[: 2 * LANES]]
    for tiles in refused:
        with pytest.raises(EngineError, match="the device"):
            tiles.result()
    assert device.infer(batches[0]).amplitude.shape == (4, 16, 16)


def test_a_scan_through_overlapping_batches_is_that_of_a_single_engine(journey, stream, device):
    alone = journey(batch_frames=4).take(stream()).result()
    run = journey(as_pool(device), batch_frames=4).take(stream()).wait(END_S).result()
    assert run.ledger.counts() == alone.ledger.counts()
    for channel in ("amplitude", "phase", "coverage"):
        np.testing.assert_allclose(run.mosaic.image(channel), alone.mosaic.image(channel), atol=1e-5)


def test_the_journey_hands_a_device_as_many_batches_as_it_has_lanes(device, tiny_engine):
    assert as_pool(device).most == LANES
    assert beside_others(device).room == LANES
    assert as_pool(tiny_engine).most < LANES


def test_more_frames_than_a_batch_come_back_as_one(device, tiny_file, tiny_engine):
    counts = tiny_file.frames(slice(0, FRAMES))[: 3 * GREATEST + 5, None]
    together, alone = device.infer(counts), tiny_engine.infer(counts)
    np.testing.assert_array_equal(together.amplitude, alone.amplitude)
    assert together.residual is None
    with pytest.raises(EngineError, match="the engine takes 16"):
        device.submit(counts)


@pytest.mark.parametrize("counts", [np.zeros((4, 1, 32, 40), "<u2"), np.zeros((4, 1, 32, 32), np.float32)])
def test_counts_of_another_kind_fail_their_batch_and_no_other(device, batches, counts):
    pool = as_pool(device)
    for _ in range(2 * LANES):
        with pytest.raises(EngineError, match=r"given, uint16 of \(32, 32\) taken"):
            pool.infer(counts)
    assert pool.infer(batches[0]).amplitude.shape == (4, 16, 16)


def test_only_sizes_that_come_again_and_again_are_worth_a_graph():
    sizes = UsualSizes()
    assert [sizes.are_with(16) for _ in range(OFTEN + 1)] == [False] * (OFTEN - 1) + [True, True]
    assert not any(sizes.are_with(frames) for frames in range(1, 16))
    for frames in range(1, 60):
        for _ in range(OFTEN):
            sizes.are_with(frames)
    assert sum(sizes.are_with(frames) for frames in range(1, 60)) == 4
