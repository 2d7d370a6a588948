"""DECTRIS Stream V1: damaged and forged messages cost a frame or a message, never more."""

import json
import runpy
import struct
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Image, Rejected
from service.wire.dectris_v1 import DectrisV1Decoder
from service.wire.pixels import encode_pixels

HOSTILE = runpy.run_path(str(Path(__file__).parent / "hostile.py"))
bounded, decoded, JSON_NODES = (HOSTILE[name] for name in ("bounded", "decoded", "JSON_NODES"))
V1 = runpy.run_path(str(Path(__file__).parent / "dectris_v1_messages.py"))
COUNTS, HEADER, IMAGE, END, started, part, header, image, RAW = (
    V1[name] for name in ("COUNTS", "HEADER", "IMAGE", "END", "started", "part", "header", "image", "RAW")
)

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
    decoder = DectrisV1Decoder()
    with bounded(1 << 20):
        for parts in forged:
            assert isinstance(decoder.decode(parts, 0)[0], Rejected)


PIECES = st.sampled_from([*HEADER, *IMAGE, *END, *header("none"), b"", b"{}", b"[]", RAW, FORGED])


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(st.lists(PIECES, max_size=6), max_size=12))
def test_the_parts_of_good_messages_in_any_order_give_events_or_a_stream_error(messages):
    decoder = DectrisV1Decoder()
    for parts in messages:
        decoded(decoder.decode, parts, 0)
    decoder.decode(HEADER, 0)
    assert isinstance(decoder.decode(IMAGE, 0)[0], Image)


@settings(max_examples=100, deadline=None)
@given(key=st.sampled_from(sorted(json.loads(HEADER[1]))), value=JSON_NODES)
def test_any_value_under_any_key_of_a_configuration_gives_a_start_or_a_stream_error(key, value):
    told = json.loads(HEADER[1]) | {key: value}
    assert decoded(DectrisV1Decoder().decode, [*header()[:1], part(**told)], 0)


@settings(max_examples=100, deadline=None)
@given(key=st.sampled_from(["shape", "type", "encoding", "size", "htype"]), value=JSON_NODES)
def test_any_value_in_the_head_of_the_pixels_costs_at_most_its_frame(key, value):
    (event,) = started().decode(image(**{key: value}), 0)
    assert isinstance(event, Rejected | Image)
