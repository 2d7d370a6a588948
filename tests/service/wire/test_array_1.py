"""array-1.0 as PSI and areaDetector send it, MAX IV's variant, our own sender, and damaged messages."""

import json
import runpy
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Image, Rejected, ScanEnd, ScanStart
from service.wire.array_1 import Array1Decoder, Array1Encoder
from service.wire.pixels import Limits, encode_pixels

HOSTILE = runpy.run_path(str(Path(__file__).parent / "hostile.py"))
bounded, decoded, JSON_NODES = (HOSTILE[name] for name in ("bounded", "decoded", "JSON_NODES"))

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
RAW = COUNTS.tobytes()
POSITIONS = np.random.default_rng(2).normal(scale=1e-6, size=(5, 2))
START = ScanStart(
    "star",
    SHAPE,
    np.dtype("<u2"),
    frames=5,
    wavelength_m=1.4e-10,
    distance_m=2.0,
    detector_pixel_m=75e-6,
    object_pixel_m=3e-8,
    saturation=4095.0,
    positions_m=POSITIONS,
)
NOON_NS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 10**9
SECOND_NS = 10**9


def part(**fields):
    return json.dumps(fields).encode()


def image(frame=0, blob=RAW, **changes):
    """Return an image as PSI's data acquisition sends it."""
    told = {"htype": "array-1.0", "shape": [12, 16], "type": "uint16", "frame": frame}
    return [part(**told | changes), blob]


def max_iv(htype, blob=None, **fields):
    """Return a message of MAX IV's variant."""
    head = part(htype=htype, msg_number=7, **fields)
    return [head] if blob is None else [head, blob]


def max_iv_image(frame, blob=RAW, compression="none"):
    return max_iv("image", blob, frame=frame, shape=[12, 16], type="uint16", compression=compression)


def heard(messages, decoder=None, received_ns=NOON_NS):
    decoder = decoder or Array1Decoder()
    return [event for parts in messages for event in decoder.decode(parts, received_ns)]


def kinds(events):
    return [type(event) for event in events]


def test_a_stream_of_images_alone_begins_with_what_the_first_one_tells():
    start, first, second = heard([image(0), image(1)])
    assert (start.scan, start.frame_shape, start.dtype) == ("array-20261122T120000.000000", SHAPE, "<u2")
    assert "12 × 16 uint16 as image 0 has" in start.assumed
    assert [first.index, second.index] == [0, 1]
    assert {event.scan for event in (first, second)} == {start.scan}
    assert np.array_equal(first.counts, COUNTS)


@pytest.mark.parametrize(
    ("blob", "told"),
    [
        (RAW, {"encoding": "none"}),
        (RAW, {"encoding": None, "endianness": "little"}),
        (COUNTS.astype(">u2").tobytes(), {"endianness": "big"}),
        (encode_pixels(COUNTS, "lz4"), {"encoding": "lz4"}),
        (encode_pixels(COUNTS, "bslz4"), {"encoding": "bslz4"}),
        (encode_pixels(COUNTS, "bslz4"), {"encoding": "bs16-lz4<"}),
        (encode_pixels(COUNTS.byteswap(), "bslz4"), {"encoding": "bslz4", "endianness": "big"}),
        (COUNTS.astype("<u4").tobytes(), {"type": "uint32"}),
        (COUNTS.astype("<f4").tobytes(), {"type": "float32"}),
        (RAW, {"shape": [1, 12, 16]}),
    ],
)
def test_pixels_are_read_in_every_encoding_and_byte_order(blob, told):
    _, event = heard([image(blob=blob, **told)])
    assert np.array_equal(event.counts, COUNTS)


def test_a_scan_of_max_iv_is_named_after_its_file_and_ended():
    header = max_iv("header", b'{"exptime": 0.1}', filename="/data/visitors/2026/star.h5")
    packed = encode_pixels(COUNTS, "bslz4")
    events = heard([header, max_iv_image(0), max_iv_image(1, packed, "bslz4"), max_iv("series_end")])
    assert kinds(events) == [ScanStart, Image, Image, ScanEnd]
    assert {event.scan for event in events} == {"star"}
    assert (events[0].frame_shape, events[0].assumed) == (SHAPE, "")
    assert np.array_equal(events[2].counts, COUNTS)


@pytest.mark.parametrize("filename", ["", None])
def test_a_live_view_of_max_iv_without_a_file_is_named_by_its_time(filename):
    fields = {} if filename is None else {"filename": filename}
    start, _ = heard([max_iv("header", **fields), max_iv_image(0)])
    assert start.scan.startswith("array-20261122T12")


def test_what_our_sender_says_of_a_scan_is_what_the_decoder_hears():
    encoder = Array1Encoder(START)
    sent = [encoder.header(), *(encoder.image(n, COUNTS + n, "bslz4") for n in range(5)), encoder.end()]
    assert [json.loads(parts[0])["msg_number"] for parts in sent] == list(range(7))
    start, *images, end = heard(sent)
    assert (start.scan, start.frame_shape, start.dtype, start.frames) == ("star", SHAPE, "<u2", 5)
    assert (start.wavelength_m, start.distance_m, start.detector_pixel_m) == (1.4e-10, 2.0, 75e-6)
    assert (start.object_pixel_m, start.saturation, start.assumed) == (3e-8, 4095.0, "")
    assert np.array_equal(start.positions_m, POSITIONS)
    assert all(np.array_equal(image.counts, COUNTS + image.index) for image in images)
    assert end.scan == "star"


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<f4"])
def test_images_of_every_type_survive_every_encoding(dtype, encoding):
    _, event = heard([Array1Encoder(START).image(3, COUNTS.astype(dtype), encoding)])
    assert (event.index, event.counts.dtype) == (3, np.dtype(dtype))
    assert np.array_equal(event.counts, COUNTS)


def test_a_long_scan_whose_numbers_begin_anew_is_another_scan():
    decoder = Array1Decoder()
    heard([image(n) for n in range(200)], decoder)
    end, start, first = heard([image(0)], decoder, NOON_NS + 1000)
    assert kinds([end, start, first]) == [ScanEnd, ScanStart, Image]
    assert end.scan != start.scan == first.scan


@pytest.mark.parametrize("ended", [True, False])
def test_a_short_scan_begins_anew_after_an_end_or_a_pause(ended):
    decoder = Array1Decoder()
    heard([image(n) for n in range(3)], decoder)
    ends = heard([max_iv("series_end")], decoder) if ended else []
    events = ends + heard([image(0), image(1)], decoder, NOON_NS + (1 if ended else 2) * SECOND_NS)
    assert kinds(events) == [ScanEnd, ScanStart, Image, Image]


@pytest.mark.parametrize("order", [(0, 0, 1), (1, 0, 2), (90, 0, 1), (3, 2, 1)])
def test_frames_that_overtake_each_other_or_come_twice_stay_in_their_scan(order):
    events = heard([image(n) for n in order])
    assert kinds(events) == [ScanStart, Image, Image, Image]


def test_frames_that_an_end_has_overtaken_stay_in_their_scan():
    events = heard([image(0), max_iv("series_end"), image(1)])
    assert kinds(events) == [ScanStart, Image, ScanEnd, Image]
    assert len({event.scan for event in events}) == 1


def test_only_a_scan_that_began_with_a_header_will_be_told_to_end():
    (plain, _), (headed, _) = heard([image()]), heard([max_iv("header", filename="s"), max_iv_image(0)])
    assert (plain.has_end, headed.has_end) == (False, True)


def test_an_end_of_nothing_says_nothing():
    assert heard([max_iv("series_end")]) == []


def test_a_second_header_begins_another_scan():
    headers = [max_iv("header", filename=name) for name in ("a.h5", "b.h5")]
    events = heard([headers[0], image(0), headers[1], image(0)])
    assert [event.scan for event in events] == ["a", "a", "b", "b"]


UNDECODABLE = {
    "no pixels": [image()[0]],
    "too short": image(blob=RAW[:-1]),
    "other shape": image(shape=[16, 12]),
    "one side": image(shape=[192]),
    "a stack": image(shape=[2, 12, 16], blob=RAW + RAW),
    "text shape": image(shape="12x16"),
    "bignum sides": image(shape=[2**62, 2**62]),
    "no type": image(type=None),
    "signed pixels": image(type="int32"),
    "unknown encoding": image(encoding="zip"),
    "no encoding": image(encoding=7),
    "middle endian": image(endianness="middle"),
    "wrong element size": image(blob=encode_pixels(COUNTS, "bslz4"), type="uint32", encoding="bslz4"),
    "forged size": image(blob=struct.pack(">QI", 2**40, 8192), encoding="bslz4"),
}


@pytest.mark.parametrize("parts", UNDECODABLE.values(), ids=UNDECODABLE)
def test_a_frame_whose_pixels_cannot_be_read_is_rejected_by_number(parts):
    decoder = Array1Decoder()
    heard([image(0)], decoder)
    (event,) = heard([parts], decoder)
    assert (event.index, event.reason) == (0, "undecodable")
    assert len(event.detail) < 200


def test_an_unreadable_image_begins_no_scan():
    (event,) = heard([image(blob=b"")])
    assert (event.index, event.reason) == (0, "no_header")
    assert "never started here" in event.detail


BAD_MESSAGES = {
    "no part": [],
    "three parts": [*image(), b""],
    "empty": [b""],
    "no JSON": [b"\xff"],
    "no htype": [b"{}"],
    "another stream": [part(htype="dimage-1.0", series=1, frame=0)],
    "no frame": [part(htype="array-1.0", shape=[12, 16], type="uint16"), RAW],
    "negative frame": image(-1),
    "true frame": image(True),
    "frame above the limit": image(2**24),
    "frame of 2**70": image(2**70),
    "endless nesting": [b'{"htype":"array-1.0","frame":0,"shape":' + b"[" * 100_000],
    "a number too large": [b'{"htype":"array-1.0","frame":1' + b"0" * 5000 + b"}"],
    "a head too long": [b" " * (1 << 20) + b"{}"],
    "a number as file": [part(htype="header", filename=7)],
}


@pytest.mark.parametrize("parts", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_breaks_the_format_is_refused_whole(parts):
    with pytest.raises(MessageError) as refusal:
        Array1Decoder().decode(parts, 0)
    assert len(str(refusal.value)) < 250


def test_forged_sizes_take_neither_time_nor_memory():
    forged = [UNDECODABLE[name] for name in ("forged size", "bignum sides", "a stack")]
    forged.append(image(blob=b"\0" * 20, shape=[2**15, 2**10], type="uint32", encoding="bslz4"))
    with bounded(1 << 20):
        for parts in forged:
            assert isinstance(heard([parts])[0], Rejected)


def test_only_so_many_scans_are_remembered():
    decoder = Array1Decoder(Limits(max_known_scans=2))
    events = heard([parts for _ in range(9) for parts in (max_iv("header"), image(0))], decoder)
    assert kinds(events) == [ScanStart, Image] * 9


KEYS = ["htype", "shape", "type", "frame", "encoding", "compression", "endianness", "filename"]


@settings(max_examples=150, deadline=None)
@given(
    htype=st.sampled_from(["array-1.0", "image", "header"]),
    key=st.sampled_from(KEYS),
    value=JSON_NODES,
    blob=st.binary(max_size=400) | st.just(RAW),
)
def test_any_value_under_any_key_gives_events_or_a_stream_error(htype, key, value, blob):
    told = {"htype": htype, "shape": [12, 16], "type": "uint16", "frame": 3}
    decoder = Array1Decoder()
    decoded(decoder.decode, [part(**told | {key: value}), blob], NOON_NS)
    assert isinstance(heard([image(3)], decoder)[-1], Image)
