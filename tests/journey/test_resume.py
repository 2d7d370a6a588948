"""A service that is killed in mid-scan and started anew goes on with the scan."""

from __future__ import annotations

import io
import signal

import h5py
import numpy as np
import pytest
import zmq

from model.scans import open_scan
from service.replay import ReplayPlan, messages

FRAMES = 64
RECORDED = "/entry_1/recording_1/frames"
SETTINGS = {"refine": False, "threads": 1, "join_deadline_s": 30, "end_grace_s": 0.5}


class Detector:
    """A detector that goes on, whoever takes its frames or not; positions are told with the start."""

    def __init__(self, file, scan, format_, endpoint):
        plan = ReplayPlan(scan=scan, format=format_)
        with open_scan(file) as opened:
            start, *frames, end = (message.parts for message in messages(opened, plan))
        self.start, self.frames, self.end = start, frames, end
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.connect(endpoint)

    def send(self, *parts):
        for message in parts:
            self._socket.send_multipart(message)

    def close(self):
        self._socket.close(linger=0)
        self._context.term()


@pytest.fixture
def detector(tiny_scan):
    """Make detectors; they end with the test."""
    made = []

    def make(scan, format_, endpoint):
        made.append(Detector(tiny_scan, scan, format_, endpoint))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kill(service):
    assert service.end(signal.SIGKILL) == -signal.SIGKILL


def kept_after_now(service, processes):
    """Wait until a snapshot is written of what is stitched now."""
    (snapshot,) = service.results.glob(".running/*/snapshot")
    before_ns = snapshot.stat().st_mtime_ns
    processes.until(lambda: snapshot.stat().st_mtime_ns > before_ns, "a snapshot")
    before_ns = snapshot.stat().st_mtime_ns
    processes.until(lambda: snapshot.stat().st_mtime_ns > before_ns, "one that was begun after now")


def stitched(service, processes, scan, frames):
    processes.until(lambda: service.stitched(scan) == frames, f"{frames} frames are stitched")


def recorded(path):
    with h5py.File(path, swmr=True) as file:
        return len(file[RECORDED])


def test_a_scan_outlives_a_service_that_is_killed_twice_and_tells_to_the_frame_what_was_lost(
    serve, processes, detector, tiny_bundle
):
    service = serve(images_format="native", bundle=tiny_bundle, snapshot_s=0.1, **SETTINGS)
    (images,) = service.endpoints()
    sender = detector("killed", "native", images)
    sender.send(sender.start, *sender.frames[:30])
    stitched(service, processes, "killed", 30)
    kept_after_now(service, processes)
    kill(service)
    service.start(images=images, snapshot_s=3600)  # one snapshot at once, and no other
    assert service.report("killed")["resumed"][0] | {"at": ""} == {
        "at": "", "kept": 30, "recorded": 0, "lost": 0,
    }  # fmt: skip
    sender.send(*sender.frames[30:40])
    stitched(service, processes, "killed", 40)
    kill(service)
    sender.send(*sender.frames[40:45])  # into the sender's own queue
    service.start(images=images)
    sender.send(*sender.frames[45:], sender.frames[3], sender.frames[35], sender.end)
    report = service.finished("killed")
    assert processes.balanced(report["ledger"])
    assert report["ledger"] | {"decoded": 0, "joined": 0, "inferred": 0} == {
        "expected": FRAMES, "received": FRAMES + 2, "stitched": FRAMES - 9, "duplicates": 2,
        "dropped": {"service_down": 9}, "decoded": 0, "joined": 0, "inferred": 0,
    }  # fmt: skip
    assert [(again["kept"], again["lost"]) for again in report["resumed"]] == [(30, 0), (30, 10)]
    assert any("30 frames from its snapshot" in line for line in report["warnings"])
    content = service.http.get("/api/scans/killed/result.h5").raise_for_status().content
    with h5py.File(io.BytesIO(content)) as result:
        assert result["entry/frames"][()].tolist() == [*range(30), 35, *range(40, FRAMES)]
        assert result["entry/ledger/dropped/service_down"][()] == 9
    assert not list(service.results.glob(".running/*"))


def test_a_killed_service_that_keeps_nothing_says_what_it_missed_and_takes_the_next_scan(
    serve, processes, detector, tiny_bundle
):
    changed = SETTINGS | {"snapshot_s": 0, "join_deadline_s": 0.5}
    service = serve(images_format="dectris-v2", bundle=tiny_bundle, **changed)
    images, positions = service.endpoints()
    sender = detector("missed", "dectris-v2", images)
    sender.send(sender.start, *sender.frames[:20])
    stitched(service, processes, "missed", 20)
    kill(service)
    service.start(images=images, positions=positions)
    sender.send(*sender.frames[20:], sender.end)
    report = service.finished("missed")
    assert processes.balanced(report["ledger"])
    assert report["ledger"]["dropped"] == {"never_arrived": 20, "no_position": FRAMES - 20}
    assert any("start of the scan was not received" in line for line in report["warnings"])
    following = detector("next", "dectris-v2", images)
    following.send(following.start, *following.frames, following.end)
    report = service.finished("next")
    assert (report["ledger"]["stitched"], report["resumed"], report["warnings"]) == (FRAMES, [], [])


LONG = [pytest.param(other, marks=pytest.mark.long) for other in ("dectris-v1", "native", "array-1.0")]


@pytest.mark.parametrize("format_", ["dectris-v2", *LONG])
def test_with_a_recording_nothing_is_lost_and_the_mosaic_is_that_of_an_undisturbed_scan(
    serve, processes, detector, tiny_bundle, tmp_path, format_
):
    recording = {"record": tmp_path, "snapshot_s": 3600}
    service = serve(images_format=format_, bundle=tiny_bundle, **recording, **SETTINGS)
    endpoints = dict(zip(("images", "positions"), service.endpoints(), strict=False))
    sender = detector("killed", format_, endpoints["images"])
    sender.send(sender.start, *sender.frames[:40])
    part = tmp_path / "killed.part.cxi"
    processes.until(part.exists, "the recording is there")
    processes.until(lambda: recorded(part) == 40, "40 frames are on the disk")
    kill(service)
    service.start(**endpoints)
    sender.send(*sender.frames[40:], sender.end)
    report = service.finished("killed")
    assert processes.balanced(report["ledger"])
    assert (report["ledger"]["stitched"], report["ledger"]["dropped"]) == (FRAMES, {})
    (how,) = report["resumed"]
    assert (how["kept"] + how["recorded"], how["lost"]) == (40, 0)
    assert how["kept"] <= 1  # the first snapshot is of the scan's beginning, and the next was far off
    whole = detector("whole", format_, endpoints["images"])
    whole.send(whole.start, *whole.frames, whole.end)
    assert service.finished("whole")["ledger"]["stitched"] == FRAMES
    for channel in ("amplitude", "phase", "agreement", "coverage"):
        assert np.allclose(service.mosaic("killed", channel), service.mosaic("whole", channel), atol=1e-5)
