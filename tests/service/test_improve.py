"""An engine that is compiled beside the stream takes over at a batch border, if it is faster."""

import threading
import time

import pytest
from waiting import until

import service.engines.choice as choice
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import EngineError, NotCompiledError
from service.loopback import loopback_settings
from service.serving import serving

FRAMES = 64


class Slow(OnnxRuntimeEngine):
    """What "auto" finds at first."""

    backend = "slow"

    def infer(self, counts):
        time.sleep(0.02)
        return super().infer(counts)


class Compiling:
    """An engine that has to be compiled; how long that takes, and what comes of it, the test says."""

    def __init__(self, monkeypatch, compiled=OnnxRuntimeEngine):
        self.may_end = threading.Event()
        self.begun = threading.Event()
        self.given_up = False
        self._compiled = compiled
        monkeypatch.setattr(choice, "ENGINES", {"onnxruntime": Slow})
        monkeypatch.setitem(choice.ON_GPU, "tensorrt", self)
        monkeypatch.setitem(choice.ON_GPU, "onnxruntime-cuda", self.refuse)

    def __call__(self, bundle, gpu, *, may_compile=True, stopped=lambda: False):
        if not may_compile:
            raise NotCompiledError("it is not yet compiled for this GPU")
        self.begun.set()
        while not self.may_end.wait(0.01):
            if stopped():
                self.given_up = True
                raise EngineError("the compilation was stopped")
        return self._compiled(bundle, 1)

    def refuse(self, bundle, gpu):
        raise EngineError("there is no GPU")


@pytest.fixture
def compiling(monkeypatch):
    return Compiling(monkeypatch)


def test_the_stream_goes_on_with_the_faster_engine_in_mid_scan_and_loses_no_frame(compiling, serve):
    running = serve()
    sender, messages = running.sender(), running.messages()
    for parts in messages[:31]:
        sender.send_multipart(parts)
    until(lambda: running.app.intakes[0].messages == 31)
    assert running.get("/api/status")["engine"]["backend"] == "slow"
    compiling.may_end.set()
    until(lambda: running.get("/api/status")["engine"]["backend"] == "onnxruntime")
    for parts in messages[31:]:
        sender.send_multipart(parts)
    run = running.finished()
    assert (run.ledger.counts().stitched, run.ledger.counts().dropped) == (FRAMES, {})
    assert running.metrics()["ptycholive_engine_info"] == {("onnxruntime", "cpu", "tiny"): 1}


def test_an_engine_that_turns_out_slower_is_not_taken(monkeypatch, serve, caplog):
    class Slower(Slow):
        def infer(self, counts):
            time.sleep(0.1)
            return super().infer(counts)

    compiling = Compiling(monkeypatch, Slower)
    compiling.may_end.set()
    with caplog.at_level("INFO", "ptycholive"):
        running = serve()
        until(lambda: "tensorrt is compiled" in caplog.text)
    assert running.app.engine.backend == "slow"


def test_an_engine_that_cannot_be_compiled_leaves_a_line_and_the_stream_alone(monkeypatch, serve, caplog):
    def fails(bundle, threads):
        raise EngineError("the GPU has not the memory")

    compiling = Compiling(monkeypatch, fails)
    compiling.may_end.set()
    with caplog.at_level("INFO", "ptycholive"):
        running = serve()
        until(lambda: "not tensorrt: the GPU has not the memory" in caplog.text)
    running.replay()
    assert running.finished().ledger.counts().stitched == FRAMES


def test_a_service_that_stops_does_not_wait_for_the_compiler(compiling, tiny_bundle, tmp_path):
    with serving(loopback_settings(str(tiny_bundle), tmp_path)):
        assert compiling.begun.wait(30)
    assert compiling.given_up


def test_a_model_that_came_meanwhile_is_not_replaced_by_the_old_one(compiling, serve, bundle_maker, tmp_path):
    running = serve()
    assert compiling.begun.wait(30)
    brighter = bundle_maker(tmp_path, "brighter", gain=2.0)
    assert running.http.post("/api/model", json={"bundle": str(brighter)}, timeout=30).is_success
    compiling.may_end.set()
    until(lambda: running.get("/api/status")["engine"]["backend"] == "onnxruntime")  # its turn came, too
    assert running.get("/api/status")["model"]["name"] == "brighter"
