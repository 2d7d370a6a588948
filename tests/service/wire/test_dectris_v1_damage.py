"""DECTRIS Stream V1: damaged and forged messages cost a frame or a message, never more."""

import json
import struct
import time
import tracemalloc

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError, StreamError
from service.messages import Image, Rejected, ScanEnd, ScanStart
from service.wire import dectris_v1
from service.wire.dectris_v1 import DectrisV1Decoder, SentSeries
from service.wire.pixels import encode_pixels

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
RAW = COUNTS.tobytes()
START = ScanStart("star", SHAPE, np.dtype("<u2"), frames=5, mask=np.zeros(SHAPE, bool))
SERIES = SentSeries(START, number=16)
HEADER = dectris_v1.encode_header(SERIES)
IMAGE = dectris_v1.encode_image(SERIES, 3, COUNTS, "bslz4")
END = dectris_v1.encode_end(SERIES)


def started():
    decoder = DectrisV1Decoder()
    decoder.decode(HEADER, 0)
    return decoder


def part(**fields):
    return json.dumps(fields).encode()


def header(detail="basic", series=16, **changes):
    """Return a header of our sender, its configuration changed; None takes a key out of it."""
    told = json.loads(HEADER[1]) | changes
    configuration = {key: value for key, value in told.items() if value is not None}
    head = part(htype="dheader-1.0", series=series, header_detail=detail)
    return [head] if detail == "none" else [head, part(**configuration)]


def image(blob=RAW, series=16, frame=3, **changes):
    """Return an image of raw pixels, the head of its array changed."""
    told = {"htype": "dimage_d-1.0", "shape": [16, 12], "type": "uint16", "encoding": "<", "size": len(blob)}
    head = part(htype="dimage-1.0", series=series, frame=frame, hash="none")
    return [head, part(**told | changes), blob, part(htype="dconfig-1.0", real_time=1)]


FORGED = struct.pack(">QI", 2**40, 8192)
UNDECODABLE = {
    "other shape": image(shape=[12, 16]),
    "other pixel type": image(COUNTS.astype("<u4").tobytes() + b"\0", type="uint32"),
    "too short": image(RAW[:-1]),
    "too long": image(RAW + b"\0"),
    "three sides": image(shape=[16, 12, 1]),
    "bignum sides": image(shape=[10**50, 2]),
    "no shape": image(shape=None),
    "no type": image(type=None),
    "signed pixels": image(type="int16"),
    "64-bit pixels": image(type="uint64"),
    "a type of a page": image(type="x" * 5000),
    "bits unlike the type": image(encode_pixels(COUNTS, "bslz4"), encoding="bs32-lz4<"),
    "wrong element size": image(encode_pixels(COUNTS, "bslz4"), encoding="bs32-lz4<", type="uint32"),
    "bitshuffle alone": image(encoding="bs16<"),
    "unknown encoding": image(encoding="zip<"),
    "forged size": image(FORGED, encoding="bs16-lz4<"),
    "cut short": image(encode_pixels(COUNTS, "bslz4")[:-1], encoding="bs16-lz4<"),
    "framed where bare": image(encode_pixels(COUNTS, "hdf5-lz4"), encoding="lz4<"),
    "no JSON": [image()[0], b"\xff", RAW],
    "endless nesting": [image()[0], b'{"shape":' + b"[" * 100_000, RAW],
    "a number too large": [image()[0], b'{"shape":[1' + b"0" * 5000 + b",2]}", RAW],
}


@pytest.mark.parametrize("parts", UNDECODABLE.values(), ids=UNDECODABLE)
def test_a_frame_whose_pixels_cannot_be_read_is_rejected_by_number(parts):
    (event,) = started().decode(parts, 0)
    assert (event.scan, event.index, event.reason) == ("star", 3, "undecodable")
    assert len(event.detail) < 250


@pytest.mark.parametrize(
    "change",
    [
        {"x_pixels_in_detector": 0},
        {"x_pixels_in_detector": None},
        {"y_pixels_in_detector": "12"},
        {"x_pixels_in_detector": 2**20, "y_pixels_in_detector": 2**20},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change):
    with pytest.raises(MessageError, match="header of series 16"):
        DectrisV1Decoder().decode(header(**change), 0)


def test_a_mask_of_another_size_than_the_frames_is_refused():
    parts = [*header("all", x_pixels_in_detector=17), *HEADER[2:8]]
    with pytest.raises(MessageError, match="is a region set"):
        DectrisV1Decoder().decode(parts, 0)


BAD_MESSAGES = {
    "no part": [],
    "empty": [b""],
    "a stream of another format": [cbor2.dumps({"type": "end", "series_id": 1})],
    "other htype": [part(htype="dpause-1.0", series=1)],
    "no series": [part(htype="dseries_end-1.0")],
    "negative series": [part(htype="dseries_end-1.0", series=-1)],
    "bignum series": [part(htype="dseries_end-1.0", series=10**50)],
    "text series": [part(htype="dseries_end-1.0", series="1")],
    "text frame": image(frame="3"),
    "true frame": image(frame=True),
    "frame above the limit": image(frame=2**24),
    "unknown detail": [part(htype="dheader-1.0", series=1, header_detail="some"), b"{}"],
    "configuration without JSON": [header()[0], b"\xff"],
    "configuration of a list": [header()[0], b"[]"],
    "configuration without end": [header()[0], b'{"a":' * 100_000],
    "a number too large": [header()[0], b'{"nimages":1e999}'],
    "a configuration too long": [header()[0], b'{"a":"' + b"x" * (1 << 22) + b'"}'],
    "too many parts": [*image(), b"", b""],
    "an end that goes on": [*END, b""],
}


@pytest.mark.parametrize("parts", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_breaks_the_format_is_refused_whole(parts):
    with pytest.raises(MessageError) as refusal:
        DectrisV1Decoder().decode(parts, 0)
    assert len(str(refusal.value)) < 250


def test_forged_sizes_take_neither_time_nor_memory():
    forged = [UNDECODABLE[name] for name in ("forged size", "bignum sides", "a number too large")]
    forged.append(image(b"\0" * 20, shape=[2**15, 2**10], type="uint32", encoding="bs32-lz4<"))
    decoder, began_s = DectrisV1Decoder(), time.process_time()
    tracemalloc.start()
    for parts in forged:
        assert isinstance(decoder.decode(parts, 0)[0], Rejected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert time.process_time() - began_s < 1


def decoded(decoder, parts):
    """Tell that decoding ended in events or in a StreamError; anything else is raised on."""
    try:
        events = decoder.decode(parts, 0)
    except StreamError as error:
        return str(error)
    return all(isinstance(event, ScanStart | Image | Rejected | ScanEnd) for event in events)


@settings(deadline=None)
@given(messages=st.lists(st.lists(st.binary(max_size=200), max_size=4), max_size=6))
def test_random_bytes_give_events_or_a_stream_error(messages):
    decoder = started()
    assert all(decoded(decoder, parts) for parts in messages)


PIECES = st.sampled_from([*HEADER, *IMAGE, *END, *header("none"), b"", b"{}", b"[]", RAW, FORGED])


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(st.lists(PIECES, max_size=6), max_size=12))
def test_the_parts_of_good_messages_in_any_order_give_events_or_a_stream_error(messages):
    decoder = DectrisV1Decoder()
    for parts in messages:
        decoded(decoder, parts)
    decoder.decode(HEADER, 0)
    assert isinstance(decoder.decode(IMAGE, 0)[0], Image)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.sampled_from([HEADER, IMAGE, image(), END]),
    which=st.integers(0, 20),
    place=st.integers(0, 10**6),
    byte=st.binary(min_size=1, max_size=1),
    cut=st.integers(0, 64),
)
def test_damaged_messages_give_events_or_a_stream_error(parts, which, place, byte, cut):
    damaged = bytearray(parts[which % len(parts)])
    if damaged:
        damaged[place % len(damaged)] = byte[0]
        del damaged[len(damaged) - cut % len(damaged) :]
    changed = [bytes(damaged) if n == which % len(parts) else told for n, told in enumerate(parts)]
    assert decoded(started(), changed) is not None


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(key=st.sampled_from(sorted(json.loads(HEADER[1]))), value=NODES)
def test_any_value_under_any_key_of_a_configuration_gives_a_start_or_a_stream_error(key, value):
    told = json.loads(HEADER[1]) | {key: value}
    assert decoded(DectrisV1Decoder(), [*header()[:1], part(**told)])


@settings(max_examples=100, deadline=None)
@given(key=st.sampled_from(["shape", "type", "encoding", "size", "htype"]), value=NODES)
def test_any_value_in_the_head_of_the_pixels_costs_at_most_its_frame(key, value):
    (event,) = started().decode(image(**{key: value}), 0)
    assert isinstance(event, Rejected | Image)
