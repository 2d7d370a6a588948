"""What is lost on the way is told, frame by frame; what is only disturbed is not lost."""

from __future__ import annotations

import random
import socket

import pytest
import zmq

from service.faults import Faults

FRAMES = 120


def sent_with(faults: str) -> list[int]:
    """The frame numbers that a detector with these faults sends, in their order."""
    return list(Faults.parse(faults).applied(range(FRAMES)))


@pytest.mark.parametrize(
    "faults",
    [
        "drop=0.1,seed=1",
        "dup=0.1,seed=2",
        "reorder=0.3,seed=3",
        "drop=0.05,dup=0.1,reorder=0.2,late=0.1,seed=4",
    ],
    ids=["lost", "twice", "in the wrong order", "all at once"],
)
def test_the_ledger_tells_what_the_faults_did(service, processes, request, faults):
    sent = sent_with(faults)
    lost = sorted(set(range(FRAMES)) - set(sent))
    scan = request.node.callspec.id.replace(" ", "-")
    report = service.take(scan, frames=FRAMES, faults=faults)
    ledger = report["ledger"]
    assert processes.balanced(ledger)
    assert (ledger["expected"], ledger["received"], ledger["stitched"]) == (FRAMES, len(sent), len(set(sent)))
    assert ledger["duplicates"] == len(sent) - len(set(sent))
    assert ledger["dropped"] == ({"never_arrived": len(lost)} if lost else {})
    if lost:
        assert f"never arrived: {lost[0]}" in report["ledger_words"]


def test_metrics_add_up_the_ledgers_of_all_scans(service):
    service.take("before-the-sum", frames=40, faults="drop=0.2,dup=0.1,seed=5")
    ledgers = [scan["ledger"] for scan in service.get("/api/scans")]
    samples = service.metrics()
    for stage in ("expected", "received", "stitched", "duplicates"):
        assert samples["ptycholive_frames_total"][stage,] == sum(ledger[stage] for ledger in ledgers)
    never_arrived = sum(ledger["dropped"].get("never_arrived", 0) for ledger in ledgers)
    assert samples["ptycholive_frames_dropped_total"] == {("never_arrived",): never_arrived}


def test_a_scan_in_the_native_format_is_stitched_without_a_position_stream(serve, processes):
    native = serve(images_format="native")
    sent = sent_with("drop=0.05,reorder=0.1,seed=6")
    report = native.take("native", frames=FRAMES, faults="drop=0.05,reorder=0.1,seed=6", encoding="lz4")
    assert processes.balanced(report["ledger"])
    assert report["ledger"]["stitched"] == len(sent)
    assert report["ledger"]["dropped"] == {"never_arrived": FRAMES - len(sent)}


def test_garbage_at_the_port_of_the_images_is_counted_and_the_next_scan_runs(service, processes):
    images, _ = service.endpoints()
    host, port = images.removeprefix("tcp://").split(":")
    garbage = random.Random(1)
    for _ in range(3):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(garbage.randbytes(4096))
    with zmq.Context() as context, context.socket(zmq.PUSH) as peer:
        peer.connect(images)
        for number in range(20):
            peer.send_multipart([garbage.randbytes(1 << number % 12)] * (1 + number % 3))
        refused = "ptycholive_messages_refused_total"
        processes.until(lambda: service.metrics().get(refused, {}).get((images,), 0) >= 20, "it is refused")
    assert any("refused" in line for line in service.get("/api/status")["warnings"])
    report = service.take("after-the-garbage", frames=40)
    assert report["ledger"]["stitched"] == 40
    assert processes.balanced(report["ledger"])
