"""Positions as beamlines send them, over real sockets: the ledger is right to the frame."""

from __future__ import annotations

import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from model.scans import open_scan
from service.faults import Faults
from service.messages import Positions
from service.replay import ReplayPlan, messages
from service.wire import native
from service.wire.position_senders import POSITION_SENDERS, PositionsSending

FRAMES = 64
A_FRAME = 4
A_PACKET = 8  # frames
FIELDS = {"positions_y": "INENC1.VAL", "positions_x": "INENC2.VAL"}
IN_MICROMETRES = {"positions_y_unit_m": 1e-6, "positions_x_unit_m": 1e-6}
COUNTED = {"positions_frame": "COUNTER1.OUT", "positions_first_frame": 1}
WAIT = {"join_deadline_s": 2.0}
JSON = {**FIELDS, **IN_MICROMETRES, "positions_samples": A_FRAME}


@dataclass(frozen=True)
class Tiny:
    """A small scan and the bundle for it.

    Attributes:
        path: of the scan.
        positions_m: (n, 2) of its frames.
        bundle: settings of a service for it.
    """

    path: Path
    positions_m: np.ndarray
    bundle: dict[str, Any]

    def detector(self, scan):
        """Return the parts of the messages that a detector sends."""
        plan = ReplayPlan(scan, format="dectris-v2", positions="stream")
        with open_scan(self.path) as opened:
            return [one.parts for one in messages(opened, plan) if one.lane == "detector"]


@pytest.fixture(scope="module")
def tiny(tiny_scan, tiny_bundle):
    with open_scan(tiny_scan) as scan:
        positions_m = scan.positions_m
    return Tiny(tiny_scan, positions_m, {"bundle": tiny_bundle, "threads": 1, "end_grace_s": 0.5, **WAIT})


@pytest.fixture(scope="module")
def json_service(serve, tiny):
    """A service that takes positions in JSON, with several samples a frame; it finds that out by itself."""
    return serve(**tiny.bundle, **JSON)


@pytest.fixture(scope="module")
def native_service(serve, tiny):
    return serve(**tiny.bundle)


def packets(kind, tiny, scan, samples=A_FRAME):
    """Return the messages of a position stream: before, positions, end."""
    sender = POSITION_SENDERS[kind](PositionsSending(scan, FRAMES, samples, series=random.randrange(10**6)))
    starts = range(0, FRAMES, A_PACKET)
    told = [sender.positions(n, tiny.positions_m[n : n + A_PACKET]) for n in starts]
    return sender.start(), told, sender.end()


class Beamline:
    """A detector and a position source, sent by hand: what goes when, and what never goes."""

    def __init__(self, service, tiny, scan):
        self._service, self.scan = service, scan
        sent = tiny.detector(scan)
        self.start, self.images, self.end = sent[0], sent[1:-1], sent[-1]

    def __enter__(self):
        self._context = zmq.Context()
        endpoints = [end for end in self._service.endpoints() if end.startswith("tcp")]
        self._sockets = [self._context.socket(zmq.PUSH) for _ in endpoints]
        for socket_, endpoint in zip(self._sockets, endpoints, strict=True):
            socket_.connect(endpoint)
        return self

    def __exit__(self, *_):
        self._context.destroy(linger=1000)

    def detector(self, sent):
        for parts in sent:
            self._sockets[0].send_multipart(parts)

    def positions(self, sent):
        for parts in sent:
            self._sockets[1].send_multipart(parts)

    def finished(self):
        return self._service.finished(self.scan)


def ended(processes, report):
    ledger = report["ledger"]
    assert processes.balanced(ledger)
    assert ledger["expected"] == FRAMES
    return ledger["stitched"], ledger["dropped"]


def test_scans_whose_positions_come_from_a_panda_are_stitched_whole(serve, processes, tiny, tmp_path):
    panda = processes.free_endpoint().replace("tcp", "panda")
    service = serve(positions=panda, positions_bind=False, **tiny.bundle, **FIELDS, **COUNTED)
    assert service.get("/api/status")["sources"][1]["format"] == "panda"
    for scan in ("first", "second"):  # the PandA of the first is gone when the second begins
        settings = {"to": service.endpoints()[0], "format": "dectris-v2", "positions": panda}
        told = processes.flags({**settings, "scan": scan, "samples": A_FRAME})
        detector = processes.spawn(["replay", tiny.path, *told], tmp_path / scan)
        report = service.finished(scan)
        assert detector.wait(processes.PATIENCE_S) == 0
        assert ended(processes, report) == (FRAMES, {})
        assert report["warnings"] == []


def test_a_panda_that_breaks_off_in_mid_scan_is_said_and_what_came_is_stitched(serve, processes, tiny):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(processes.PATIENCE_S)
        endpoint = f"panda://127.0.0.1:{listener.getsockname()[1]}"
        service = serve(
            positions=endpoint, positions_bind=False, positions_samples=A_FRAME, **tiny.bundle, **FIELDS
        )
        header, told, _ = packets("panda", tiny, "cut")
        client, _ = listener.accept()
        with client, Beamline(service, tiny, "cut") as beamline:
            beamline.detector([beamline.start])
            client.sendall(b"OK\n" + b"".join(part for parts in [*header, *told[:4]] for part in parts))
            beamline.detector(beamline.images)
            processes.until(lambda: service.stitched("cut") == 32, "what came is stitched")
            client.close()
            processes.until(
                lambda: any("broke" in line for line in service.get("/api/status")["warnings"]), "it is said"
            )
            beamline.detector([beamline.end])
            report = beamline.finished()
    assert ended(processes, report) == (32, {"no_position": 32})
    assert any("broke in mid-capture, after sample 128" in line for line in report["warnings"])


@pytest.mark.parametrize("kind", ["native", "nsls2-json"])
def test_a_lost_packet_of_positions_costs_its_own_frames_and_stalls_nothing(
    native_service, json_service, processes, tiny, kind
):
    service = native_service if kind == "native" else json_service
    before, told, end = packets(kind, tiny, "lost-packet")
    with Beamline(service, tiny, "lost-packet") as beamline:
        beamline.detector([beamline.start])
        beamline.positions([*before, *told[:3], *told[4:]])
        beamline.detector(beamline.images)
        processes.until(
            lambda: service.stitched("lost-packet") == FRAMES - A_PACKET, "all others are stitched"
        )
        beamline.positions([end])
        beamline.detector([beamline.end])
        report = beamline.finished()
    assert ended(processes, report) == (FRAMES - A_PACKET, {"no_position": A_PACKET})
    assert any("no position came for frame 24" in line for line in report["warnings"])
    if kind == "nsls2-json":
        assert any("1 of 8 position packets did not come" in line for line in report["warnings"])


@pytest.mark.parametrize("kind", ["native", "nsls2-json"])
def test_positions_that_come_late_but_in_time_still_give_their_tiles(
    native_service, json_service, processes, tiny, kind
):
    service = native_service if kind == "native" else json_service
    before, told, end = packets(kind, tiny, "late")
    with Beamline(service, tiny, "late") as beamline:
        beamline.detector([beamline.start, *beamline.images, beamline.end])
        beamline.positions([*before, *told[:4]])
        processes.until(lambda: service.stitched("late") == 32, "half is stitched")
        time.sleep(0.3)
        beamline.positions([*told[4:], end])
        report = beamline.finished()
    assert ended(processes, report) == (FRAMES, {})
    assert report["warnings"] == []


@pytest.mark.parametrize("kind", ["native", "nsls2-json"])
def test_positions_twice_and_in_another_order_change_nothing(
    native_service, json_service, processes, tiny, kind
):
    service = native_service if kind == "native" else json_service
    before, told, end = packets(kind, tiny, "disorder")
    disturbed = list(Faults.parse("dup=0.3,reorder=0.5,seed=3").applied(told))
    with Beamline(service, tiny, "disorder") as beamline:
        beamline.detector([beamline.start])
        beamline.positions([*before, *disturbed, end])
        beamline.detector([*beamline.images, beamline.end])
        report = beamline.finished()
    assert ended(processes, report) == (FRAMES, {})
    assert report["warnings"] == []


def test_a_position_stream_that_was_armed_before_the_service_came_is_told_in_one_line(
    json_service, processes, tiny
):
    _, told, end = packets("nsls2-json", tiny, "mid-scan")
    with Beamline(json_service, tiny, "mid-scan") as beamline:
        beamline.detector([beamline.start])
        beamline.positions([*told[3:], end])
        beamline.detector([*beamline.images, beamline.end])
        report = beamline.finished()
    assert ended(processes, report) == (FRAMES - 24, {"no_position": 24})
    told_lines = [line for line in report["warnings"] if line.startswith("positions begin")]
    assert any("frame 24" in line for line in told_lines)


def test_frames_that_begin_late_are_told_in_one_line(native_service, processes, tiny):
    before, told, end = packets("native", tiny, "late-frames")
    with Beamline(native_service, tiny, "late-frames") as beamline:
        beamline.positions([*before, *told, end])
        beamline.detector([beamline.start, *beamline.images[30:], beamline.end])
        report = beamline.finished()
    assert ended(processes, report) == (FRAMES - 30, {"never_arrived": 30})
    assert [line for line in report["warnings"] if "frames begin at 30" in line]


def test_the_capture_of_a_scan_that_was_aborted_places_no_frame_of_the_next(json_service, processes, tiny):
    before, told, _ = packets("nsls2-json", tiny, "aborted")
    shifted = msgspec.json.encode({"msg_type": "stop"})
    with Beamline(json_service, tiny, "aborted") as beamline:
        beamline.detector([beamline.start])
        beamline.positions([*before, *told[:4]])
        beamline.detector([*beamline.images[:32], beamline.end])
        assert ended(processes, beamline.finished())[0] == 32
        beamline.positions([*told[4:], [shifted]])
    before, told, end = packets("nsls2-json", tiny, "next")
    with Beamline(json_service, tiny, "next") as beamline:
        beamline.detector([beamline.start, *beamline.images[32:]])
        processes.until(lambda: json_service.report("next"), "it is running")
        time.sleep(0.3)
        assert json_service.stitched("next") == 0
        beamline.positions([*before, *told, end])
        beamline.detector([*beamline.images[:32], beamline.end])
        assert ended(processes, beamline.finished()) == (FRAMES, {})


def test_positions_of_impossible_frames_are_refused_and_the_scan_goes_on(native_service, processes, tiny):
    before, told, end = packets("native", tiny, "impossible")
    far = native.encode_positions(Positions("impossible", 2**40, tiny.positions_m[:4]))
    with Beamline(native_service, tiny, "impossible") as beamline:
        beamline.detector([beamline.start])
        beamline.positions([*before, far, *told, end])
        beamline.detector([*beamline.images, beamline.end])
        assert ended(processes, beamline.finished()) == (FRAMES, {})
    refused = native_service.metrics()["ptycholive_messages_refused_total"]
    assert refused[native_service.endpoints()[1],] >= 1
