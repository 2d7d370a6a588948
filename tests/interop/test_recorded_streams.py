"""Streams recorded of a real Eiger at MAX IV, sent again to our service as they came."""

from __future__ import annotations

import gzip
from pathlib import Path

import cbor2
import numpy as np
import pytest
import zmq

from service.messages import Positions
from service.wire import native

DATA = Path(__file__).parents[1] / "data"
STEP_M = 5e-8
END = b'{"htype":"dseries_end-1.0","series":%d}'

pytestmark = pytest.mark.long


def recorded(name):
    return cbor2.loads(gzip.decompress((DATA / f"{name}.cbor.gz").read_bytes()))


@pytest.mark.parametrize(("format_", "frames"), [("dectris-v1", 9), ("dectris-v2", 2)])
def test_every_frame_of_a_recorded_eiger_is_accounted_for(
    serve, processes, tiny_bundle, context, format_, frames
):
    messages = recorded(f"stream{format_[-1]}_eiger1M_maxiv")
    service = serve(
        images_format=format_, positions="tcp://127.0.0.1:*", positions_bind=True, bundle=tiny_bundle,
        refine=False, threads=1, end_grace_s=0.5, join_deadline_s=60,
    )  # fmt: skip
    with context.socket(zmq.PUSH) as detector, context.socket(zmq.PUSH) as stages:
        for socket, endpoint in zip((detector, stages), service.endpoints(), strict=True):
            socket.connect(endpoint)
        for parts in messages:
            detector.send_multipart(parts)
        scan = processes.until(lambda: service.get("/api/status")["current_scan"], "the scan begins")
        track_m = np.column_stack([np.zeros(frames), np.arange(frames) * STEP_M])
        stages.send_multipart(native.encode_positions(Positions(scan, 0, track_m)))
        processes.until(lambda: service.stitched(scan) == frames, "all are stitched")
        if format_ == "dectris-v1":  # its end was not recorded
            detector.send(END % int(scan.removeprefix("series-")))
        report = service.finished(scan)
    ledger = report["ledger"]
    assert processes.balanced(ledger)
    assert (ledger["received"], ledger["stitched"], ledger["duplicates"]) == (frames, frames, 0)
    assert set(ledger["dropped"]) <= {"never_arrived"}  # the rest of the series was not recorded
    assert service.metrics().get("ptycholive_messages_refused_total", {}) == {}


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context
