"""What a peer may send by mistake or malice: it is refused, counted and told, and the next scan is whole."""

import random

import cbor2
import msgspec
import numpy as np
import pytest
from waiting import until

from service.faults import Faults
from service.messages import ScanEnd, ScanStart
from service.wire import native
from service.wire.pixels import DEFAULT_LIMITS

FRAMES = 64
LOOPBACK = "tcp://127.0.0.1:*"
BOTH = [("native", 0), ("dectris-v2", 0), ("dectris-v2", 1)]


def garbage(messages):
    """Yield messages of all kinds that no detector sends."""
    dice = random.Random(5)
    for _ in range(1000):
        yield [dice.randbytes(dice.randrange(200)) for _ in range(dice.randrange(1, 4))]
    for _ in range(200):
        whole = b"".join(messages[1])
        yield [whole[: dice.randrange(1, len(whole))]]
    for kind in ("start", "image", "end", "frames", "positions", 7, None):
        yield [msgspec.msgpack.encode({"type": kind, "scan": "x" * 500})]
        yield [cbor2.dumps({"type": kind, "series_id": -1})]
        yield [cbor2.dumps({"type": kind, "series_id": 1, "image_id": 0, "data": {"t": b""}})]
    yield [b""]
    yield [b"x"] * 50
    yield [bytes(DEFAULT_LIMITS.max_head_bytes + 1)]


@pytest.mark.parametrize(("images_format", "socket"), BOTH, ids=["native", "dectris", "positions"])
def test_thousands_of_bad_messages_do_not_spoil_the_next_scan(serve, images_format, socket):
    running = serve(images_format=images_format, positions=LOOPBACK, positions_bind=True)
    sender, bad = running.sender(socket), list(garbage(running.messages()))
    for parts in bad:
        sender.send_multipart(parts)
    until(lambda: running.app.intakes[socket].messages == len(bad))
    assert running.app.intakes[socket].refused > 0.9 * len(bad)
    running.replay()
    counts = running.finished().ledger.counts()
    assert (counts.stitched, counts.dropped) == (FRAMES, {})
    assert running.http.get("/readyz").status_code == 200


def test_a_flood_is_counted_in_full_and_told_in_a_few_lines(serve, caplog):
    running = serve()
    sender = running.sender()
    for number in range(2000):
        sender.send(b"garbage %d" % number)
    until(lambda: running.app.intakes[0].refused == 2000)
    status = running.get("/api/status")
    assert (status["sources"][0]["messages"], status["sources"][0]["refused"]) == (2000, 2000)
    assert len(status["warnings"]) <= 20
    assert sum("refused" in record.message for record in caplog.records) <= 20
    assert sum(running.metrics()["ptycholive_messages_refused_total"].values()) == 2000


def test_garbage_between_the_frames_of_a_scan_costs_none_of_them(serve):
    running = serve()
    sender = running.sender()
    for number, parts in enumerate(running.messages()):
        sender.send_multipart(parts)
        sender.send(b"garbage %d" % number)
    assert running.finished().ledger.counts().stitched == FRAMES


def test_a_stream_of_another_format_is_told(serve):
    running = serve(images_format="native")
    running.replay(format="dectris-v2")
    until(lambda: running.app.intakes[0].refused == FRAMES + 2)
    assert any("not a native message" in line for line in running.get("/api/status")["warnings"])
    assert running.get("/api/scans") == []


def test_a_sender_cut_off_in_mid_scan_for_a_part_too_large_is_told(serve):
    running = serve(images_format="native")
    sender, messages = running.sender(), running.messages(format="native")
    for parts in messages[:30]:
        sender.send_multipart(parts)
    until(lambda: running.stitched() > 0)
    sender.send(bytes(DEFAULT_LIMITS.max_message_bytes + 1))
    until(lambda: any("went away in the middle" in line for line in running.app.warnings))
    for parts in messages[30:]:
        sender.send_multipart(parts)
    assert running.finished().ledger.counts().stitched == FRAMES


def test_a_sender_that_leaves_after_the_end_is_no_matter(serve):
    running = serve()
    running.replay()
    running.finished()
    until(lambda: running.app.intakes[0].lost_peers > 0)
    assert list(running.app.warnings) == []


def test_a_start_with_an_absurd_geometry_does_not_bring_the_service_down(serve):
    running = serve(images_format="native")
    absurd = ScanStart(
        "absurd",
        (32, 32),
        np.dtype("<u2"),
        frames=1,
        wavelength_m=1e-300,
        distance_m=1e-300,
        detector_pixel_m=1.0,
    )
    sender = running.sender()
    sender.send_multipart(native.encode_start(absurd))
    sender.send_multipart(native.encode_end(ScanEnd("absurd", 2**63)))
    assert running.finished("absurd").ledger.counts().expected == 2**63
    running.replay()
    assert running.finished().ledger.counts().stitched == FRAMES
    assert running.get("/api/scans/absurd")["ledger"]["stitched"] == 0


def test_a_black_frame_leaves_every_page_readable(serve):
    running = serve(images_format="native", batch_frames=1)
    start, *frames, end = running.messages(format="native")
    sender = running.sender()
    dark = native.encode_frames("tiny", 0, np.zeros((1, 32, 32), "<u2"), "raw")
    for parts in [start, dark, *frames[1:], end]:
        sender.send_multipart(parts)
    assert running.finished().ledger.counts().dropped == {"not_finite": 1}
    assert running.report()["forward_residual"] > 0
    assert running.http.get("/api/scans/tiny/mosaic", params={"format": "png"}).is_success


@pytest.mark.parametrize("seed", range(3))
def test_a_faulty_stream_over_real_sockets_balances(serve, seed):
    running = serve(positions=LOOPBACK, positions_bind=True)
    running.replay(faults=Faults(drop=0.15, dup=0.15, reorder=0.3, late=0.2, seed=seed))
    counts = running.finished().ledger.counts()
    assert counts.stitched + counts.dropped["never_arrived"] == FRAMES
