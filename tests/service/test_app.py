"""The running service: real sockets, real threads, real files."""

import os
import subprocess
import sys
import threading
import time

import h5py
import msgspec
import numpy as np
import pytest
import zmq
from waiting import until
from websockets.sync.client import connect

import service.app
import service.engines.onnxruntime
from model.scans import open_scan, write_scan
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import ConfigError
from service.faults import Faults
from service.messages import Positions, ScanEnd, ScanStart
from service.outlets import Destination
from service.replay import ReplayPlan, run_replay
from service.wire import native

FRAMES = 64
LOOPBACK = "tcp://127.0.0.1:*"
OWN_POSITIONS = {"positions": LOOPBACK, "positions_bind": True}
PATIENCE_S = 30.0


class SlowEngine(OnnxRuntimeEngine):
    """A real engine on a slow machine."""

    batch_s = 0.001

    def infer(self, counts):
        time.sleep(self.batch_s)
        return super().infer(counts)


class BrokenEngine(OnnxRuntimeEngine):
    """An engine with a bug that shows with the first real frame."""

    def infer(self, counts):
        if counts.any():
            raise ZeroDivisionError("a bug")
        return super().infer(counts)


@pytest.mark.parametrize("positions", [{}, OWN_POSITIONS], ids=["in the start", "of their own"])
@pytest.mark.parametrize("images_format", ["native", "dectris-v2"])
def test_a_scan_that_is_streamed_is_stitched_whole(serve, images_format, positions):
    running = serve(images_format=images_format, **positions)
    running.replay()
    counts = running.finished().ledger.counts()
    assert (counts.stitched, counts.dropped) == (FRAMES, {})


def test_the_service_is_ready_within_seconds(serve):
    began_s = time.monotonic()
    running = serve()
    assert running.http.get("/readyz").status_code == 200
    assert time.monotonic() - began_s < 10


def viewer_sees(url, scan):
    """Return the scan's report as the last state of the live page has it."""
    with connect(url.replace("http", "ws") + "/api/live", proxy=None) as socket:
        while True:
            message = socket.recv(timeout=PATIENCE_S)
            state = msgspec.json.decode(message) if isinstance(message, str) else {}
            if (state.get("scan") or {}).get("scan") == scan and state["scan"]["finished"]:
                return state["scan"]


def test_api_live_page_metrics_and_result_file_tell_the_same_ledger(serve):
    running = serve(**OWN_POSITIONS)
    running.replay(faults=Faults(drop=0.1, dup=0.2, reorder=0.2, late=0.2, seed=11))
    counts = running.finished().ledger.counts().as_dict()
    assert counts["duplicates"] > 0
    assert counts["dropped"]["never_arrived"] > 0
    assert running.report()["ledger"] == counts
    assert viewer_sees(running.web.url, "tiny")["ledger"] == counts
    metrics, dropped = running.metrics(), counts.pop("dropped")
    assert metrics["ptycholive_frames_total"] == {(stage,): number for stage, number in counts.items()}
    assert metrics["ptycholive_frames_dropped_total"] == {(reason,): n for reason, n in dropped.items()}
    with h5py.File(running.app.store.file("tiny")) as file:
        ledger = file["entry/ledger"]
        assert {reason: number[()] for reason, number in ledger["dropped"].items()} == dropped
        assert {stage: ledger[stage][()] for stage in counts} == counts


def test_the_start_and_end_of_a_position_stream_are_not_those_of_the_scan(serve, tiny_file):
    running = serve(**OWN_POSITIONS)
    start, (_, *frames, end) = running.messages(positions="stream")[0], running.messages()
    detector, positions = running.sender(0), running.sender(1)
    detector.send_multipart(start)
    until(lambda: running.app.runs.current())
    planned = ScanStart("tiny", (1, 1), np.dtype("<u1"), frames=FRAMES, positions_m=tiny_file.positions_m)
    positions.send_multipart(native.encode_start(planned))
    positions.send_multipart(native.encode_end(ScanEnd("tiny", 1000)))
    for parts in frames:
        detector.send_multipart(parts)
    until(lambda: running.stitched() == FRAMES)
    assert running.app.runs.current() is not None
    detector.send_multipart(end)
    counts = running.finished().ledger.counts()
    assert (counts.expected, counts.stitched) == (FRAMES, FRAMES)


def test_a_series_whose_header_was_missed_is_stitched_and_the_operator_told(serve, tiny_file):
    running = serve(**OWN_POSITIONS)
    _, *frames, end = running.messages(positions="start")
    positions = Positions("tiny", 0, tiny_file.positions_m)
    running.sender(1).send_multipart(native.encode_positions(positions))
    detector = running.sender(0)
    for parts in [*frames, end]:
        detector.send_multipart(parts)
    assert running.finished().ledger.counts().stitched == FRAMES
    assert any(
        "start of the scan was not received" in line for line in running.get("/api/status")["warnings"]
    )


def test_a_full_inbox_makes_the_detector_wait_and_loses_nothing(serve, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(service.engines.onnxruntime, "OnnxRuntimeEngine", SlowEngine)
    running = serve(inbox_mib=1, batch_frames=1)
    path = tmp_path / "long.cxi"
    write_scan(path, np.tile(tiny_file.frames(), (20, 1, 1)), np.tile(tiny_file.positions_m, (20, 1)))
    to, deepest = running.app.intakes[0].source.endpoint, 0
    with open_scan(path) as scan:
        plan = ReplayPlan("tiny", format="dectris-v2")
        sender = threading.Thread(target=run_replay, args=(scan, plan, Destination(to)))
        sender.start()
        while not (running.app.runs.newest_first() and running.app.runs.newest_first()[0].finished_ns):
            deepest = max(deepest, running.app.queues()["inbox"])
            time.sleep(0.002)
        sender.join(PATIENCE_S)
    assert running.finished().ledger.counts().stitched == 20 * FRAMES
    assert 400 <= deepest <= 410  # a MiB of frames of 2 KiB, and half a KiB about each


def test_stopping_in_the_middle_of_a_scan_writes_its_result(serve):
    running = serve()
    sender = running.sender()
    for parts in running.messages()[:41]:
        sender.send_multipart(parts)
    until(lambda: running.stitched() >= 32)
    running.stop()
    with h5py.File(running.results / "tiny.h5") as file:
        assert file["entry/ledger/stitched"][()] == 40
        assert file["entry/ledger/dropped/never_arrived"][()] == FRAMES - 40


@pytest.mark.parametrize("patience_s", [0.0, 5.0])
def test_frames_that_wait_when_the_service_stops_are_reconstructed_or_counted(serve, monkeypatch, patience_s):
    monkeypatch.setattr(service.engines.onnxruntime, "OnnxRuntimeEngine", SlowEngine)
    monkeypatch.setattr(SlowEngine, "batch_s", 0.02)
    monkeypatch.setattr(service.app, "_STOP_S", patience_s)
    running = serve(batch_frames=1)
    sender = running.sender()
    for parts in running.messages():
        sender.send_multipart(parts)
    until(lambda: running.app.intakes[0].messages == FRAMES + 2)
    running.stop()
    run = running.app.runs.get("tiny")
    counts = run.ledger.counts()
    assert counts.balanced
    assert counts.received == FRAMES
    assert counts.stitched == FRAMES - counts.dropped.get("stopped", 0)
    assert (counts.stitched == FRAMES) == (patience_s > 0)


def test_two_scans_of_one_name_are_two_results(serve):
    running = serve()
    running.replay()
    running.finished()
    running.replay(frames=30)
    until(lambda: running.app.store.file("tiny").name != "tiny.h5")
    frames = []
    for path in sorted(running.results.glob("tiny*.h5"), key=lambda path: len(path.name)):
        with h5py.File(path) as file:
            frames.append(file["entry/ledger/stitched"][()])
    assert frames == [FRAMES, 30]
    assert running.report()["ledger"]["stitched"] == 30


def test_only_the_last_scans_stay_in_memory_but_all_are_counted(serve):
    running = serve(keep_scans=2)
    for number in range(4):
        running.replay(scan=f"scan-{number}", frames=20)
        until(lambda number=number: running.app.store.file(f"scan-{number}"))
    assert [scan["scan"] for scan in running.get("/api/scans")] == ["scan-3", "scan-2"]
    assert running.report("scan-0") is None
    assert running.metrics()["ptycholive_frames_total"]["stitched",] == 80
    assert sorted(path.stem for path in running.results.glob("*.h5")) == [f"scan-{n}" for n in range(4)]


def test_tiles_go_out_while_the_scan_runs(serve):
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.set(zmq.LINGER, 0)
        subscriber.set(zmq.SUBSCRIBE, b"")
        running = serve(tiles="tcp://127.0.0.1:*")
        subscriber.connect(running.app.tiles_endpoint)
        time.sleep(0.2)  # a subscription travels to the publisher
        running.replay()
        running.finished()
        heard = []
        while subscriber.poll(200):
            topic, head, *_ = subscriber.recv_multipart()
            heard.append((topic, msgspec.msgpack.decode(head)))
    (first, started), *tiles, (last, finished) = heard
    assert (first, started["event"], last, finished["event"]) == (
        b"scan/tiny",
        "started",
        b"scan/tiny",
        "finished",
    )
    assert {topic for topic, _ in tiles} == {b"tiles/tiny"}
    assert sorted(number for _, head in tiles for number in head["frames"]) == list(range(FRAMES))
    assert finished["ledger"] == running.report()["ledger"]


def test_a_bug_in_a_thread_makes_the_service_unready_and_still_closes_the_scan(serve, monkeypatch):
    monkeypatch.setattr(service.engines.onnxruntime, "OnnxRuntimeEngine", BrokenEngine)
    running = serve()
    running.replay()
    assert running.app.wait(PATIENCE_S)
    assert isinstance(running.app.failure, ZeroDivisionError)
    answer = running.http.get("/readyz")
    assert answer.status_code == 503
    assert "a bug" in answer.text


BROKEN = """
import service.engines.onnxruntime as engines
class Broken(engines.OnnxRuntimeEngine):
    def infer(self, counts):
        return 1 // 0 if counts.any() else super().infer(counts)
engines.OnnxRuntimeEngine = Broken
from service.cli import main
main()
"""


def test_a_process_with_a_bug_in_a_thread_ends_with_status_1(tiny_bundle, tiny_file, tmp_path):
    images = f"ipc://{tmp_path}/images"
    command = [sys.executable, "-c", BROKEN, "serve", "--images", images, "--images-bind", "--port", "0"]
    command += ["--bundle", tiny_bundle, "--results", tmp_path / "results"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy()
    ) as process:
        run_replay(tiny_file, ReplayPlan("tiny", format="dectris-v2"), Destination(images))
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert b"ZeroDivisionError" in told


def test_a_service_that_cannot_have_an_endpoint_leaves_nothing_open(serve, tmp_path):
    images = f"ipc://{tmp_path}/images"
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        taken.bind(LOOPBACK)
        positions = taken.get_string(zmq.LAST_ENDPOINT)
        with pytest.raises(ConfigError, match="another program"):
            serve(images=images, positions=positions, positions_bind=True)
    running = serve(images=images)
    running.replay()
    assert running.finished().ledger.counts().stitched == FRAMES
