"""A message that would cost far more than its bytes is refused before memory, or time, is taken for it."""

import json
import runpy
from pathlib import Path

import cbor2
import msgspec
import numpy as np
import pytest

from service.errors import MessageError
from service.messages import ScanStart
from service.sources import decoder_for
from service.wire import dectris_v2, native
from service.wire.dectris_v2 import DectrisV2Decoder, SentSeries
from service.wire.fields import short
from service.wire.native import NativeDecoder
from service.wire.nsls2_positions import speaks_nsls2
from service.wire.pixels import DEFAULT_LIMITS

HOSTILE = runpy.run_path(str(Path(__file__).parent / "hostile.py"))
bounded, decoded = HOSTILE["bounded"], HOSTILE["decoded"]

LITTLE = 1 << 20
MANY = 1 << 20
START = ScanStart("star", (12, 16), np.dtype("<u2"))
HEADER_V1 = b'{"htype":"dheader-1.0","series":1,"header_detail":"basic"}'


def cbor(value, key="user_data"):
    return [
        cbor2.dumps({"type": "start", "series_id": 1}).replace(b"\xa2", b"\xa3", 1) + cbor2.dumps(key) + value
    ]


def fraction(digits):
    number = b"\xc2\x5a" + digits.to_bytes(4, "big") + b"\xfb" * digits
    return b"\xd8\x1e\x82" + number + number[:-1] + b"\x01"


ITSELF = b"\xd8\x1c\x81\xd8\x1d\x00"  # tags 28 and 29: an array whose item is the array
CBOR = {
    "numbers": cbor(b"\x9a" + MANY.to_bytes(4, "big") + b"\x00" * MANY),
    "numbers without end": cbor(b"\x9f" + b"\x00" * MANY),
    "empty arrays": cbor(b"\x9a" + MANY.to_bytes(4, "big") + b"\x80" * MANY),
    "keys": cbor(b"\xba" + MANY.to_bytes(4, "big") + b"\x00\x00" * MANY),
    "text in pieces": cbor(b"\x7f" + b"\x61a" * MANY),
    "tags in tags": cbor(b"\xd8\x40" * MANY),
    "arrays in arrays": cbor(b"\x81" * 100 + b"\x00"),
    "a fraction of large numbers": cbor(fraction(MANY)),
    "a decimal": cbor(b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01"),
    "a pattern": cbor(b"\xd8\x23\x7a" + MANY.to_bytes(4, "big") + b"(" * MANY),
    "an e-mail": cbor(b"\xd8\x24\x63a:b"),
    "an array that holds itself": cbor(ITSELF),
    "a type that holds itself": cbor(ITSELF, "type"),
    "a reserved item": cbor(b"\x1c"),
}


@pytest.mark.parametrize("parts", CBOR.values(), ids=CBOR)
def test_a_cbor_message_that_is_larger_than_its_bytes_is_refused(parts):
    decoder = DectrisV2Decoder()
    with bounded(LITTLE + 2 * len(parts[0])), pytest.raises(MessageError):
        decoder.decode(parts, 0)


@pytest.mark.parametrize("length", [0, 1, 23, 24, 1000, DEFAULT_LIMITS.max_items - 50])
def test_what_a_user_adds_to_a_start_passes_while_it_is_small(length):
    told = {**cbor2.loads(dectris_v2.encode_start(SentSeries(START, 1))[0])}
    told |= {"user_data": {"rows": [0.5] * length, "name": "x" * length, "deep": [[[[[length]]]]]}}
    for message in (cbor2.dumps(told), cbor2.dumps(told, indefinite_containers=True)):
        (start,) = DectrisV2Decoder().decode([message], 0)
        assert start.frame_shape == (12, 16)


def test_a_large_byte_string_is_one_item():
    message = cbor2.dumps({"type": "end", "series_id": 1, "blob": bytes(1 << 22), "words": "w" * (1 << 20)})
    assert DectrisV2Decoder().decode([message], 0)


def test_a_map_of_msgpack_costs_nothing_for_what_is_not_asked_for():
    filler = [[]] * (DEFAULT_LIMITS.max_head_bytes - 200)
    head = msgspec.msgpack.encode({"type": "end", "scan": "s", "frames": 1, "mood": filler})
    decoder = NativeDecoder()
    with bounded(LITTLE):
        assert decoder.decode([head], 0)


def test_a_head_of_json_costs_nothing_for_what_is_not_asked_for():
    filler = b"[" + b"[]," * (DEFAULT_LIMITS.max_head_bytes // 4) + b"0]"
    head, decoder = b'{"htype":"header","x":' + filler + b"}", decoder_for("array-1.0")
    with bounded(LITTLE):
        assert decoder.decode([head], 0) == []


@pytest.mark.parametrize("key", ["x", "wavelength"])
def test_a_configuration_of_json_costs_nothing_for_what_no_detector_says(key):
    filler = b"[" + b"[]," * ((DEFAULT_LIMITS.max_configuration_bytes - 100) // 3) + b"0]"
    parts = [HEADER_V1, f'{{"{key}":'.encode() + filler + b"}"]
    decoder = decoder_for("dectris-v1")
    with bounded(2 * len(parts[1])):
        decoded(decoder.decode, parts, 0)


@pytest.mark.parametrize("format_", ["auto", "array-1.0", "dectris-v1"])
def test_json_that_is_longer_than_any_head_is_not_read(format_):
    long = b'{"htype":"header","x":"' + b"x" * (1 << 24) + b'"}'
    decoder = decoder_for(format_)
    with bounded(LITTLE), pytest.raises(MessageError):
        decoder.decode([long], 0)


def test_positions_in_json_that_are_longer_than_any_packet_are_not_read():
    long = b'{"msg_type":"data","x":"' + b"x" * (1 << 24) + b'"}'
    with bounded(LITTLE):
        assert not speaks_nsls2([long])


def test_a_note_that_is_longer_than_any_header_is_not_read():
    note = b'{"ptycholive":{"scan":"named","x":"' + b"x" * (1 << 23) + b'"}}'
    decoder = decoder_for("array-1.0")
    decoder.decode([b'{"htype":"header","filename":"a.h5"}', note], 0)
    image = {"htype": "array-1.0", "frame": 0, "shape": [1, 2], "type": "uint8"}
    start, _ = decoder.decode([json.dumps(image).encode(), b"ab"], 0)
    assert start.scan == "a"


@pytest.mark.parametrize("name", ["x" * 129, "x" * 100_000, "", "a b", "../a", "a\n", "é"])
@pytest.mark.parametrize("format_", ["native", "dectris-v2"])
def test_scan_names_are_short_and_plain_or_not_taken(format_, name):
    if format_ == "native":
        assert isinstance(
            decoded(NativeDecoder().decode, [msgspec.msgpack.encode({"type": "end", "scan": name})], 0), str
        )
    else:
        told = {"type": "end", "series_id": 7, "series_unique_id": name}
        (end,) = DectrisV2Decoder().decode([cbor2.dumps(told)], 0)
        assert end.scan == "series-7"


def test_the_planned_positions_of_scans_gone_by_are_not_kept():
    decoder, positions_m = NativeDecoder(), np.zeros((1 << 16, 2))
    with bounded(4 * positions_m.nbytes):
        for number in range(DEFAULT_LIMITS.max_known_scans):
            decoder.decode(
                native.encode_start(ScanStart(f"s{number}", (4, 4), START.dtype, positions_m=positions_m)), 0
            )


def test_what_is_said_of_a_value_is_short_though_it_holds_itself():
    endless = [1, 2]
    endless.append(endless)
    for value in (endless, [[[["deep"]]]], "x" * 10**6, 10**5000, {"a": 1}):
        assert len(short(value)) < 200
