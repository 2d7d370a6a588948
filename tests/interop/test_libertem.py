"""LiberTEM on the other side: its receiver takes what ours sends, its simulator sends to our service."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import httpx
import numpy as np
import pytest

from model.scans import open_scan
from service.replay import ReplayPlan, messages

FRAMES = 64
PATIENCE_S = 120
LISTENING = re.compile(r"RustedReplay listening on (tcp://\S+)")
LENGTH = struct.Struct("<q")
RECEIVE = Path(__file__).with_name("receive_dectris.py")

pytestmark = pytest.mark.long


@pytest.mark.parametrize("encoding", ["lz4", "bslz4"])
def test_their_receiver_gets_every_frame_that_our_simulator_sends_bit_by_bit(
    peers, processes, tiny_scan, tmp_path, encoding
):
    endpoint, received = processes.free_endpoint(), tmp_path / "received.npy"
    theirs = peers.start("python", RECEIVE, endpoint, FRAMES, received, log=tmp_path / "receiver.log")
    told = ["--format", "dectris-v1", "--to", endpoint, "--bind", "--encoding", encoding]
    ours = processes.spawn(["replay", tiny_scan, *told], tmp_path / "sender.log")
    assert ours.wait(PATIENCE_S) == 0, (tmp_path / "sender.log").read_text()
    assert theirs.wait(PATIENCE_S) == 0, (tmp_path / "receiver.log").read_text()
    with open_scan(tiny_scan) as scan:
        np.testing.assert_array_equal(np.load(received), scan.frames())


def recording(path, scan_file):
    """Write what our detector sends as LiberTEM records it: the length of each part, then the part.

    It is triggered from outside: of that the simulator plays a whole series once it is armed.
    """
    plan = ReplayPlan("recorded", format="dectris-v1")
    with open_scan(scan_file) as scan, path.open("wb") as file:
        for message in messages(scan, plan):
            for part in message.parts:
                told = part.replace(b'"trigger_mode":"ints"', b'"trigger_mode":"exts"')
                file.write(LENGTH.pack(len(told)) + told)


def answers(http) -> bool:
    try:
        return http.get("/detector/api/version/").is_success
    except httpx.TransportError:
        return False


def test_what_their_simulator_sends_of_a_recording_is_stitched_whole_each_time(
    peers, processes, serve, tiny_bundle, tiny_scan, tmp_path
):
    recording(tmp_path / "recorded.raw", tiny_scan)
    port, log = processes.free_endpoint().rpartition(":")[2], tmp_path / "simulator.log"
    told = ("--port", port, "--zmqport", 0, tmp_path / "recorded.raw")  # with a port it binds that one twice
    peers.start("libertem-live-dectris-sim", *told, log=log)
    said = processes.until(lambda: LISTENING.search(log.read_text()), "the simulator says where it sends")
    stream = said[1]
    service = serve(
        images=stream, images_bind=False, images_format="dectris-v1", bundle=tiny_bundle,
        refine=False, threads=1, end_grace_s=0.5,
    )  # fmt: skip
    began = set()
    with httpx.Client(base_url=f"http://localhost:{port}", trust_env=False) as http:
        processes.until(lambda: answers(http), "the simulator answers")
        for _ in range(2):
            http.put("/detector/api/1.8.0/command/arm").raise_for_status()
            processes.until(
                lambda: (service.report("recorded") or {}).get("started", "") not in {"", *began}, "it begins"
            )
            report = service.finished("recorded")
            began.add(report["started"])
            assert processes.balanced(report["ledger"])
            assert report["ledger"]["stitched"] == report["ledger"]["received"] == FRAMES
            assert (report["ledger"]["dropped"], report["warnings"]) == ({}, [])
