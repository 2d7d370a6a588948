"""More frames than can be reconstructed, and viewers that never read: the ledger is exact to the frame."""

from __future__ import annotations

import base64
import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from model.scans import open_scan
from service.replay import ReplayPlan, messages

SLOW = {"batch_frames": 1, "threads": 1, "refine": False, "inbox_mib": 1, "end_grace_s": 0.5}
FRAMES = 96
MIB = 1 << 20


def stream_of(file):
    """Return the messages of a scan; `named` gives it its name."""
    with open_scan(file) as scan:
        plan = ReplayPlan("NAME", encoding="raw", frames=FRAMES)
        return [message.parts for message in messages(scan, plan)]


@pytest.fixture(scope="module")
def star(processes):
    """The messages of the measured star: its start, its frames, its end."""
    start, *frames, end = stream_of(processes.SCAN)
    return start, frames, end


@pytest.fixture
def sender():
    """Return what opens a sending socket; it ends with the test."""
    with zmq.Context() as context:
        opened = []

        def open_(kind, endpoint, hwm, *, bind=False):
            opened.append(made := context.socket(kind))
            made.set(zmq.SNDHWM, hwm)
            (made.bind if bind else made.connect)(endpoint)
            return made

        yield open_
        for made in opened:
            made.close(linger=0)


def bytes_of_one(frames):
    """Return how many bytes of pixels a frame has."""
    return len(frames[0][1])


def named(parts, scan):
    """Return a message of another scan: their names are of one length."""
    return [parts[0].replace(b"NAME", scan.encode()), *parts[1:]]


def test_a_sender_that_is_too_fast_waits_and_no_frame_is_lost(serve, processes, star, sender):
    service = serve(images_format="native", **SLOW)
    push = sender(zmq.PUSH, service.endpoints()[0], 4)
    start, frames, end = star
    for parts in (start, *frames, end):
        push.send_multipart(named(parts, "wait"))
    deepest = 0
    while not (service.report("wait") or {}).get("finished"):
        deepest = max(deepest, service.get("/api/status")["queues"]["inbox"])
    assert 0 < deepest <= MIB // bytes_of_one(frames)
    ledger = service.finished("wait")["ledger"]
    assert (ledger["stitched"], ledger["dropped"]) == (FRAMES, {})


def test_a_service_that_drops_keeps_up_and_counts_what_it_dropped(serve, processes, star, sender):
    service = serve(images_format="native", overload="drop", **SLOW)
    push = sender(zmq.PUSH, service.endpoints()[0], 4)
    start, frames, end = star
    for scan in ("drop", "next"):  # the ledger is exact, scan for scan
        for parts in (start, *frames, end):
            push.send_multipart(named(parts, scan))
        report = service.finished(scan)
        ledger = report["ledger"]
        assert processes.balanced(ledger)
        assert ledger["received"] == FRAMES
        assert set(ledger["dropped"]) == {"overload"}
        assert ledger["stitched"] + ledger["dropped"]["overload"] == FRAMES
        (line,) = report["warnings"]
        assert "faster than they are reconstructed" in line
    assert any("faster than" in line for line in service.get("/api/status")["warnings"])


def test_what_a_publisher_throws_away_never_arrived_the_tail_included(
    serve, processes, star, sender, tmp_path
):
    images = f"ipc://{tmp_path}/images"  # of which the kernel holds little
    publish = sender(zmq.PUB, images, 8, bind=True)
    service = serve(images=images, images_bind=False, images_socket="sub", images_format="native", **SLOW)
    start, frames, end = star

    def tell(parts):
        publish.send_multipart(named(parts, "tail"))

    processes.until(lambda: tell(start) or service.report("tail"), "the start is heard")
    service.process.send_signal(signal.SIGSTOP)
    for parts in frames:
        tell(parts)
    service.process.send_signal(signal.SIGCONT)
    processes.until(lambda: tell(end) or service.report("tail")["finished"], "the end is heard")
    report = service.finished("tail")
    ledger = report["ledger"]
    assert processes.balanced(ledger)
    assert ledger["expected"] == FRAMES
    assert 0 < ledger["stitched"] < FRAMES
    assert ledger["dropped"] == {"never_arrived": FRAMES - ledger["stitched"]}
    assert f"–{FRAMES - 1}" in report["ledger_words"]


def resident_mib(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def viewer_that_never_reads(url):
    """Open the live view as a browser does, and never read from it."""
    host, _, port = url.removeprefix("http://").partition(":")
    sleeping = socket.create_connection((host, int(port.rstrip("/"))))
    sleeping.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    key = base64.b64encode(bytes(16)).decode()
    sleeping.sendall(
        f"GET /api/live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return sleeping


def test_viewers_and_subscribers_that_never_read_cost_the_stream_nothing(
    serve, processes, sender, tiny_bundle, tiny_scan
):
    """More batches than may wait for a subscriber, as each frame is one."""
    tiles = processes.free_endpoint()
    service = serve(images_format="native", tiles=tiles, bundle=tiny_bundle, **SLOW)
    push = sender(zmq.PUSH, service.endpoints()[0], 100)
    scan = stream_of(tiny_scan)

    def stream(*names):
        for name in names:
            for parts in scan:
                push.send_multipart(named(parts, name))
        for name in names:
            ledger = service.finished(name)["ledger"]
            assert (ledger["stitched"], ledger["dropped"]) == (len(scan) - 2, {})

    stream("solo")
    before_mib = resident_mib(service.process)
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.set(zmq.LINGER, 0)
        subscriber.set(zmq.RCVHWM, 1)
        subscriber.subscribe(b"")
        subscriber.connect(tiles)
        with closing(viewer_that_never_reads(service.url)), closing(viewer_that_never_reads(service.url)):
            stream(*(f"n{number:03d}" for number in range(8)))
    assert resident_mib(service.process) - before_mib < 100
