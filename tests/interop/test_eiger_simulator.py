"""Diamond's Eiger simulator sends, armed and triggered as over the detector's own HTTP interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import zmq

from service.messages import Positions
from service.wire import native

FRAMES = 8
DETECTOR_SHAPE = [4362, 4148]  # an Eiger 2 16M
STEP_M = 2e-7
PATIENCE_S = 60.0
SIMULATE = Path(__file__).with_name("simulate_eiger.py")

pytestmark = pytest.mark.long


@dataclass
class Eiger:
    """The simulator while it runs.

    Attributes:
        http: its interface.
        streams: where it sends, by what its configuration calls the format.
    """

    http: httpx.Client
    streams: dict[str, str]

    def answers(self) -> bool:
        try:
            return self.http.get("/detector/api/1.8.0/status/state").is_success
        except httpx.TransportError:
            return False

    def set(self, part: str, name: str, value: object) -> None:
        self.http.put(f"/{part}/api/1.8.0/config/{name}", json={"value": value}).raise_for_status()

    def command(self, name: str) -> None:
        self.http.put(f"/detector/api/1.8.0/command/{name}").raise_for_status()

    def arm(self, format_: str) -> None:
        self.set("stream", "format", format_)
        self.set("stream", "header_detail", "all")
        for name, value in {"trigger_mode": "ints", "ntrigger": 1, "nimages": FRAMES}.items():
            self.set("detector", name, value)
        self.set("detector", "frame_time", 0.02)
        self.command("initialize")
        self.command("arm")

    def expose(self) -> None:
        """Take all frames; the command to disarm tells the end for the second time."""
        self.command("trigger")
        self.command("disarm")


@pytest.fixture(scope="module")
def eiger(peers, processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eiger")
    http, legacy, cbor = (processes.free_endpoint() for _ in range(3))
    port_of = {name: end.rpartition(":")[2] for name, end in (("http", http), ("v1", legacy), ("v2", cbor))}
    (folder / "eiger.yaml").write_text(
        "- type: tickit_devices.eiger.Eiger\n  name: eiger\n  inputs: {}\n  host: 127.0.0.1\n"
        f"  port: {port_of['http']}\n  stream_host: 127.0.0.1\n"
        f"  stream_legacy_port: {port_of['v1']}\n  stream_cbor_port: {port_of['v2']}\n"
    )
    peers.start("python", SIMULATE, "all", folder / "eiger.yaml", log=folder / "eiger.log")
    url = http.replace("tcp", "http")
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
        eiger = Eiger(client, {"legacy": legacy, "cbor": cbor})
        processes.until(eiger.answers, "the simulator answers")
        yield eiger


@pytest.mark.parametrize(("format_", "ours"), [("legacy", "dectris-v1"), ("cbor", "dectris-v2")])
def test_every_frame_of_the_simulated_eiger_is_stitched_and_its_second_end_does_no_harm(
    eiger, serve, processes, tiny_bundle, format_, ours
):
    service = serve(
        images=eiger.streams[format_], images_bind=False, images_format=ours, bundle=tiny_bundle,
        positions="tcp://127.0.0.1:*", positions_bind=True, refine=False, threads=1, join_deadline_s=60,
    )  # fmt: skip
    began = []
    with zmq.Context() as context, context.socket(zmq.PUSH) as stages:
        stages.connect(service.endpoints()[1])
        for _ in range(2):
            eiger.arm(format_)
            eiger.expose()
            scan = processes.until(lambda: service.get("/api/status")["current_scan"], "the scan begins")
            track_m = np.column_stack([np.zeros(FRAMES), np.arange(FRAMES) * STEP_M])
            stages.send_multipart(native.encode_positions(Positions(scan, 0, track_m)))
            processes.until(lambda: service.get("/api/status")["current_scan"] is None, "the scan is over")
            report = service.finished(scan)
            began.append(report["started"])
            ledger = report["ledger"]
            assert processes.balanced(ledger)
            assert (ledger["expected"], ledger["received"], ledger["stitched"]) == (FRAMES, FRAMES, FRAMES)
            assert (ledger["duplicates"], ledger["dropped"]) == (0, {})
            assert report["geometry"]["framing"]["detector_shape"] == DETECTOR_SHAPE
    assert len(set(began)) == 2
    assert service.metrics().get("ptycholive_messages_refused_total", {}) == {}
    assert service.metrics()["ptycholive_stray_frames_total"][()] == 0
