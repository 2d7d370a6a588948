"""Receiving sockets, over real loopback TCP and IPC."""

import contextlib
import gzip
import time
from pathlib import Path

import cbor2
import numpy as np
import pytest
import zmq

from service.errors import ConfigError, MessageError
from service.messages import Image, ScanEnd, ScanStart
from service.sources import FORMATS, Source, decoder_for
from service.wire import dectris_v1, native
from service.wire.array_1 import Array1Decoder
from service.wire.dectris_v1 import DectrisV1Decoder, SentSeries
from service.wire.dectris_v2 import DectrisV2Decoder
from service.wire.detecting import DetectingDecoder
from service.wire.native import NativeDecoder
from service.wire.pixels import Limits

LOOPBACK = "tcp://127.0.0.1:*"
START = native.encode_start(ScanStart("s", (4, 4), np.dtype("<u2")))
FRAME = native.encode_frames("s", 0, np.ones((1, 4, 4), "<u2"), "raw")
END = native.encode_end(ScanEnd("s", 1))


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def push(context):
    with context.socket(zmq.PUSH) as socket:
        socket.set(zmq.LINGER, 0)
        yield socket


def received(source, count):
    """Return the next `count` messages."""
    messages = [source.receive(5) for _ in range(count)]
    assert None not in messages
    return messages


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("source_binds", [True, False])
def test_events_come_out_whichever_side_binds(context, push, tmp_path, transport, source_binds):
    endpoint = LOOPBACK if transport == "tcp" else f"ipc://{tmp_path}/detector"
    if not source_binds:
        push.bind(endpoint)
        endpoint = push.get_string(zmq.LAST_ENDPOINT)
    with Source(endpoint, NativeDecoder(), bind=source_binds, context=context) as source:
        if source_binds:
            push.connect(source.endpoint)
        for parts in (START, FRAME, END):
            push.send_multipart(parts)
        messages = received(source, 3)
    assert [type(event) for message in messages for event in message.events] == [ScanStart, Image, ScanEnd]
    assert [message.nbytes for message in messages] == [sum(map(len, parts)) for parts in (START, FRAME, END)]
    assert all(message.error is None for message in messages)


def test_an_image_is_stamped_with_the_time_of_its_arrival(context, push):
    with Source(LOOPBACK, NativeDecoder(), bind=True, context=context) as source:
        push.connect(source.endpoint)
        before = time.time_ns()
        push.send_multipart(START)
        push.send_multipart(FRAME)
        (image,) = received(source, 2)[1].events
    assert before <= image.received_ns <= time.time_ns()


def test_a_publisher_is_heard_through_a_sub_socket(context):
    with context.socket(zmq.PUB) as publisher:
        publisher.bind(LOOPBACK)
        endpoint = publisher.get_string(zmq.LAST_ENDPOINT)
        with Source(endpoint, NativeDecoder(), socket_type="sub", context=context) as source:
            deadline = time.monotonic() + 5
            message = None
            while message is None and time.monotonic() < deadline:
                publisher.send_multipart(END)
                message = source.receive(0.05)
    assert isinstance(message.events[0], ScanEnd)


def test_nothing_comes_out_of_a_silent_stream(context):
    with Source(LOOPBACK, NativeDecoder(), bind=True, context=context) as source:
        assert source.receive(0.01) is None


def test_garbage_is_told_and_the_stream_goes_on(context, push):
    with Source(LOOPBACK, NativeDecoder(), bind=True, context=context) as source:
        push.connect(source.endpoint)
        push.send_multipart([b"garbage", b"more"])
        push.send_multipart(END)
        bad, good = received(source, 2)
    assert isinstance(bad.error, MessageError)
    assert (bad.events, bad.nbytes) == ((), 11)
    assert good.error is None


@pytest.mark.parametrize(
    ("parts", "limits"),
    [
        ([b"x"] * 50, Limits(max_parts=8)),
        ([b"x" * 600, b"x" * 600], Limits(max_message_bytes=1000)),
    ],
)
def test_a_message_above_the_limits_is_drained_and_told(context, push, parts, limits):
    with Source(LOOPBACK, NativeDecoder(), bind=True, limits=limits, context=context) as source:
        push.connect(source.endpoint)
        push.send_multipart(parts)
        push.send_multipart(END)
        bad, good = received(source, 2)
    assert isinstance(bad.error, MessageError)
    assert bad.nbytes == sum(map(len, parts))
    assert isinstance(good.events[0], ScanEnd)


def test_a_peer_that_zmq_cuts_off_for_an_oversized_part_is_counted(context, push):
    limits = Limits(max_message_bytes=1000)
    with Source(LOOPBACK, NativeDecoder(), bind=True, limits=limits, context=context) as source:
        push.connect(source.endpoint)
        push.send_multipart(END)
        received(source, 1)
        assert source.lost_peers() == 0
        push.send(b"x" * 5000)
        deadline = time.monotonic() + 5
        while not source.lost_peers() and time.monotonic() < deadline:
            assert source.receive(0.05) is None
        assert source.lost_peers() >= 1


@pytest.mark.parametrize("header_comes", [True, False])
@pytest.mark.parametrize("peer", ["push", "pub"])
def test_what_waits_in_the_socket_is_bounded_by_its_bytes(context, tmp_path, peer, header_comes):
    """The detector sends on while nobody takes anything out: a pusher is held up, a publisher drops."""
    shape, most = (256, 512), 8  # frames: a quarter of a megabyte each, two megabytes in all
    sent = SentSeries(ScanStart("s", shape, np.dtype("<u2")), 1)
    messages = [dectris_v1.encode_image(sent, n, np.full(shape, n, "<u2"), "raw") for n in range(64)]
    limits = Limits(max_waiting_bytes=most * 2 * shape[0] * shape[1] + 4096)
    kinds = {"push": (zmq.PUSH, "pull"), "pub": (zmq.PUB, "sub")}
    with (
        context.socket(kinds[peer][0]) as detector,
        Source(f"ipc://{tmp_path}/d", DectrisV1Decoder(), bind=True, socket_type=kinds[peer][1],
               limits=limits, context=context) as source,
    ):  # fmt: skip
        detector.set(zmq.SNDHWM, 1)
        detector.set(zmq.SNDTIMEO, 200)
        detector.connect(source.endpoint)
        first = dectris_v1.encode_header(sent) if header_comes else messages[0]
        came = None
        while came is None:  # a publisher is not heard before the subscription has reached it
            detector.send_multipart(first)
            came = source.receive(0.05)
        passed = 0
        with contextlib.suppress(zmq.Again):
            for parts in messages:
                detector.send_multipart(parts)
                passed += 1
                time.sleep(0.002)
        waited = 0
        while source.receive(0.1):
            waited += 1
    at_the_sender = 4  # one in its queue, one in what the kernel holds, one on the way at either side
    assert most <= min(waited, passed)
    assert waited <= most + at_the_sender


def test_an_address_in_use_is_told_in_one_line(context):
    with Source(LOOPBACK, NativeDecoder(), bind=True, context=context) as source:
        with pytest.raises(ConfigError, match=f"cannot bind {source.endpoint}") as refusal:
            Source(source.endpoint, NativeDecoder(), bind=True, context=context)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://192.0.2.1:5000"])
def test_binding_off_loopback_needs_leave(context, endpoint):
    with pytest.raises(ConfigError, match="other machines"):
        Source(endpoint, NativeDecoder(), bind=True, context=context)


def test_binding_off_loopback_works_with_leave(context):
    with Source("tcp://0.0.0.0:*", NativeDecoder(), bind=True, context=context, allow_remote=True) as source:
        assert source.endpoint.startswith("tcp://0.0.0.0:")


def test_connecting_to_a_detector_elsewhere_needs_no_leave(context):
    with Source("tcp://192.0.2.1:31001", DectrisV2Decoder(), context=context) as source:
        assert source.receive(0) is None


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:5000", "tcp://127.0.0.1", "tcp://127.0.0.1:port", "udp://127.0.0.1:1", "ipc://"],
)
def test_misspelt_endpoints_are_told(context, endpoint):
    with pytest.raises(ConfigError, match="tcp://host:port"):
        Source(endpoint, NativeDecoder(), context=context)


def test_a_port_that_cannot_be_is_told(context):
    with pytest.raises(ConfigError, match="65535"):
        Source("tcp://127.0.0.1:99999", NativeDecoder(), bind=True, context=context)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("native", NativeDecoder),
        ("dectris-v1", DectrisV1Decoder),
        ("dectris-v2", DectrisV2Decoder),
        ("array-1.0", Array1Decoder),
        ("auto", DetectingDecoder),
    ],
)
def test_every_format_has_its_decoder(name, kind):
    assert isinstance(decoder_for(name), kind)
    assert name in FORMATS


def test_the_nine_parts_of_a_recorded_header_come_through_the_socket(context, push):
    recording = Path(__file__).parents[1] / "data" / "stream1_eiger1M_maxiv.cbor.gz"
    header = cbor2.loads(gzip.decompress(recording.read_bytes()))[0]
    assert len(header) == 9
    with Source(LOOPBACK, DectrisV1Decoder(), bind=True, context=context) as source:
        push.connect(source.endpoint)
        push.send_multipart(header)
        (start,) = received(source, 1)[0].events
    assert start.frame_shape == (1065, 1030)


def test_an_unknown_format_is_told_with_those_there_are():
    with pytest.raises(ConfigError, match=r"native, dectris-v1, dectris-v2, array-1\.0, auto"):
        decoder_for("dectris-v9")
