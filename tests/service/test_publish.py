"""Tiles out: what a subscriber of another program gets, over a real socket."""

import time

import msgspec
import numpy as np
import pytest
import zmq

from model.geometry import probe_weight
from service.errors import ConfigError
from service.messages import Tiles
from service.mosaic import Mosaic
from service.publish import TilePublisher

LOOPBACK = "tcp://127.0.0.1:*"
FRAMES = 64


@pytest.fixture
def publisher():
    publisher = TilePublisher(LOOPBACK)
    yield publisher
    publisher.close()


@pytest.fixture
def subscriber(publisher):
    """A subscriber whose subscription has certainly arrived."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SUBSCRIBE, b"")
        socket.connect(publisher.endpoint)
        deadline_s = time.monotonic() + 10
        while not socket.poll(20) and time.monotonic() < deadline_s:
            publisher.event("warm-up", "started", {})
        while socket.poll(50):
            socket.recv_multipart()
        yield socket


def received(socket):
    assert socket.poll(5000)
    return socket.recv_multipart()


def read_tiles(parts):
    """Rebuild tiles from the three parts as the contract has them, and nothing else."""
    topic, head, payload = parts
    told = msgspec.msgpack.decode(head)
    assert topic == f"tiles/{told['scan']}".encode()
    planes = np.frombuffer(payload, told["dtype"]).reshape(told["shape"]).astype(np.float32)
    assert told["channels"] == ["amplitude", "cos", "sin"]
    positions_m = np.frombuffer(told["positions_m"], "<f8").reshape(-1, 2)
    frames = np.array(told["frames"])
    return told, Tiles(told["scan"], frames, positions_m, *planes.transpose(1, 0, 2, 3), frames)


def test_a_batch_is_three_parts_with_all_that_the_contract_names(journey, stream, publisher, subscriber):
    told = journey(batch_frames=16).take(stream())
    publisher.tiles(told.painted[0].tiles, "tiny", 1e-8, published_ns=77)
    parts = received(subscriber)
    head, tiles = read_tiles(parts)
    assert len(parts) == 3
    assert (head["v"], head["scan"], head["model"], head["object_pixel_m"]) == (1, "tiny", "tiny", 1e-8)
    assert (head["shape"], head["dtype"]) == ([16, 3, 16, 16], "<f2")
    assert head["frames"] == list(range(16))
    assert (head["received_ns"], head["published_ns"]) == (0, 77)
    np.testing.assert_array_equal(tiles.positions_m, told.painted[0].tiles.positions_m)


def test_a_subscriber_rebuilds_the_mosaic_within_half_precision(
    journey, stream, publisher, subscriber, loaded_bundle
):
    told = journey(batch_frames=10).take(stream())
    run = told.result()
    theirs = Mosaic(run.object_pixel_m, probe_weight(loaded_bundle.probe, (16, 16)))
    for painted in told.painted:
        publisher.tiles(painted.tiles, run.model, run.object_pixel_m, published_ns=0)
    for _ in told.painted:
        theirs.add(read_tiles(received(subscriber))[1])
    assert theirs.bounds() == run.mosaic.bounds()
    for channel in ("amplitude", "phase", "agreement", "coverage"):
        ours = run.mosaic.image(channel)
        np.testing.assert_allclose(theirs.image(channel), ours, rtol=2e-3, atol=1e-3)


def test_scans_are_announced_with_their_ledger(publisher, subscriber):
    publisher.event("a", "finished", {"ledger": {"stitched": 5}})
    topic, head = received(subscriber)
    assert topic == b"scan/a"
    assert msgspec.msgpack.decode(head) == {
        "v": 1,
        "scan": "a",
        "event": "finished",
        "ledger": {"stitched": 5},
    }


def test_a_subscriber_may_ask_for_one_scan_only(publisher):
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SUBSCRIBE, b"scan/b")
        socket.connect(publisher.endpoint)
        deadline_s = time.monotonic() + 10
        while not socket.poll(20) and time.monotonic() < deadline_s:
            publisher.event("a", "started", {})
            publisher.event("b", "started", {})
        assert socket.recv_multipart()[0] == b"scan/b"


def test_a_subscriber_that_does_not_read_slows_nobody(journey, stream, publisher, subscriber):
    tiles = journey(batch_frames=64).take(stream()).painted[0].tiles
    began_s = time.monotonic()
    for _ in range(500):
        publisher.tiles(tiles, "tiny", 1e-8, published_ns=0)
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "http://127.0.0.1:1", "tcp://127.0.0.1:70000"])
def test_an_endpoint_that_cannot_be_is_refused(endpoint):
    with pytest.raises(ConfigError):
        TilePublisher(endpoint)


def test_an_endpoint_in_use_is_refused(publisher):
    with pytest.raises(ConfigError, match="another program"):
        TilePublisher(publisher.endpoint)
