"""A service that records while it stitches: what it writes, who may tell it to, and what it leaves alone."""

import threading

import numpy as np
import pytest
from waiting import until

import service.recording.recorder
from model.scans import open_scan
from service.outlets import Destination
from service.recording.scan_writer import ScanWriter
from service.replay import ReplayPlan, run_replay

FRAMES = 64
PATIENCE_S = 30.0
LOOPBACK = "tcp://127.0.0.1:*"
STREAM = {"positions": LOOPBACK, "positions_bind": True}


def record(running, on):
    return running.http.post("/api/record", json={"on": on})


@pytest.fixture
def scans(tmp_path):
    return tmp_path / "scans"


@pytest.mark.parametrize("positions", [{}, STREAM], ids=["positions in the start", "positions of their own"])
@pytest.mark.parametrize("format_", ["native", "dectris-v1", "dectris-v2", "array-1.0"])
def test_what_is_stitched_is_recorded_whole(serve, scans, tiny_file, format_, positions):
    running = serve(images_format=format_, record=str(scans), **positions)
    running.replay()
    running.finished()
    with open_scan(until(lambda: next(scans.glob("tiny.cxi"), None))) as scan:
        assert np.array_equal(scan.frames(), tiny_file.frames())
        assert np.array_equal(scan.positions_m, tiny_file.positions_m)


def test_a_recording_holds_what_the_detector_sent_and_not_what_the_door_made_of_it(serve, scans, tiny_file):
    running = serve(record=str(scans), orientation="rotate90", positions_axes="x,-y", bin=1)
    running.replay()
    running.finished()
    with open_scan(until(lambda: next(scans.glob("tiny.cxi"), None))) as scan:
        assert np.array_equal(scan.frames(), tiny_file.frames())
        assert np.array_equal(scan.positions_m, tiny_file.positions_m)


def test_a_recorded_scan_is_stitched_to_the_same_mosaic_bit_by_bit(serve, scans):
    running = serve(record=str(scans), batch_frames=1, refine=False)  # rounding goes with a batch's size
    running.replay()
    first = running.finished().mosaic
    with open_scan(until(lambda: next(scans.glob("tiny.cxi"), None))) as scan:
        run_replay(
            scan,
            ReplayPlan("again", format="dectris-v2"),
            Destination(running.app.intakes[0].source.endpoint),
        )
        again = running.finished("again").mosaic
    assert first.bounds() == again.bounds()
    for channel in ("amplitude", "phase", "agreement", "coverage"):
        assert np.array_equal(first.image(channel, first.bounds()), again.image(channel, again.bounds()))


def test_recording_is_begun_in_the_middle_of_a_scan_and_ended_over_http(serve, scans):
    running = serve(record=str(scans))
    assert record(running, on=False).json()["on"] is False
    sender, (start, *frames, _) = running.sender(), running.messages()
    for parts in [start, *frames[:20]]:
        sender.send_multipart(parts)
    until(lambda: running.stitched() >= 16 and running.app.intakes[0].messages == 21)
    assert record(running, on=True).json()["on"] is True
    for parts in frames[20:50]:
        sender.send_multipart(parts)
    until(lambda: running.get("/api/status")["recording"]["frames"] == 30)
    record(running, on=False)
    with open_scan(until(lambda: next(scans.glob("tiny.cxi"), None))) as scan:
        assert list(scan.frame_numbers) == list(range(20, 50))


def test_a_service_without_a_folder_says_that_it_cannot_record(serve):
    answer = record(serve(), on=True)
    assert answer.status_code == 422
    assert "record" in answer.json()["error"]


def test_only_who_has_the_token_may_switch_the_recording(serve, scans):
    running = serve(record=str(scans), token="secret")
    assert record(running, on=False).status_code == 401
    allowed = running.http.post("/api/record", json={"on": False}, headers={"authorization": "Bearer secret"})
    assert allowed.json()["on"] is False


@pytest.mark.parametrize("body", [{}, {"on": "yes"}, {"on": True, "folder": "/"}])
def test_a_request_to_record_that_is_no_such_thing_is_refused(serve, scans, body):
    assert serve(record=str(scans)).http.post("/api/record", json=body).status_code == 422


class StuckDisk(ScanWriter):
    """A disk that takes nothing until it is told to."""

    free = threading.Event()

    def frame(self, index, pixels):
        self.free.wait(PATIENCE_S)
        super().frame(index, pixels)


def test_a_disk_that_is_stuck_costs_the_recording_frames_and_the_reconstruction_none(
    serve, scans, monkeypatch
):
    monkeypatch.setattr(service.recording.recorder, "ScanWriter", StuckDisk)
    monkeypatch.setattr("service.recording.backlog._SMALL_BYTES", 1 << 15)
    running = serve(record=str(scans), record_mib=1)
    try:
        running.replay(encoding="raw")
        assert running.finished().ledger.counts().stitched == FRAMES
        lost = running.get("/api/status")["recording"]["lost"]
    finally:
        StuckDisk.free.set()
    assert 0 < lost < FRAMES
    with open_scan(until(lambda: next(scans.glob("tiny.cxi"), None))) as scan:
        assert len(scan) == FRAMES - lost


def test_frames_do_not_keep_the_bytes_they_came_in(serve):
    running = serve(batch_frames=64, batch_deadline_s=30.0)
    kept = []
    put = running.app.inbox.put
    running.app.inbox.put = lambda events, *told: kept.extend(events) or put(events, *told)
    running.replay()
    running.finished()
    images = [event for event in kept if hasattr(event, "packed")]
    assert len(images) == FRAMES
    assert all(image.packed is None for image in images)
