"""What a CBOR message may be built of; and of a series' images, that knowing their build changes nothing."""

import runpy
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Image, ScanStart
from service.wire.cbor_look import look_through
from service.wire.dectris_v2 import DectrisV2Decoder, SentSeries, encode_image, encode_start
from service.wire.dectris_v2_images import KnownImages
from service.wire.pixels import DEFAULT_LIMITS, Limits
from service.wire.typed_arrays import write_array

hostile = runpy.run_path(str(Path(__file__).parent / "hostile.py"))
decoded, damaged_bytes = hostile["decoded"], hostile["damaged_bytes"]

SHAPE = (16, 16)
SERIES = SentSeries(ScanStart("star", SHAPE, np.dtype("<u2"), frames=1000), series_id=3)
FEW, ARMED = 7, datetime(2026, 1, 1, tzinfo=UTC)


def counts(index):
    return np.random.default_rng(index).poisson(3, SHAPE).astype("<u2")


def image(index, encoding="bslz4"):
    (part,) = encode_image(SERIES, index, counts(index), encoding)
    return part


OTHER_BUILDS = {
    "series": {"series_id": 4},
    "name": {"series_unique_id": "stars"},
    "date": {"series_date": ARMED.replace(year=2027)},
    "further field": {"user_data": "a word"},
    "time before the start": {"start_time": [-1, 50_000_000]},
    "time that is no whole number": {"start_time": [8.0, 50_000_000]},
    "number that is not whole": {"image_id": 8.0},
    "channel": {"data": {"threshold_2": write_array(counts(8), "bslz4")}},
    "shape": {"data": {"threshold_1": write_array(counts(8)[:8], "bslz4")}},
    "type": {"data": {"threshold_1": write_array(counts(8).astype("<u4"), "bslz4")}},
    "encoding": {"data": {"threshold_1": write_array(counts(8), "lz4")}},
}


def image_map(index, **changes):
    return dict(cbor2.loads(image(index))) | changes


def verdict(part, limits=DEFAULT_LIMITS):
    try:
        look_through(part, limits)
    except MessageError as error:
        return str(error)
    return None


def decoder_that_knows(*parts):
    decoder = DectrisV2Decoder()
    for part in [*encode_start(SERIES), *parts]:
        decoder.decode([part], 0)
    return decoder


def told(decoder, part):
    """Return what a decoder makes of a message, in plain values."""
    events = decoded(decoder.decode, [part], 5)
    if isinstance(events, str):
        return events
    return [
        (event.scan, event.index, event.counts.tolist(), event.packed.encoding, bytes(event.packed.blob))
        if isinstance(event, Image)
        else repr(event)
        for event in events
    ]


ONES_OF_A_SERIES = [image(0), image(7), image(300), image(70_000), image(0, "raw"), image(300, "lz4")]


@given(st.data())
def test_a_decoder_that_knows_a_series_images_makes_of_any_bytes_what_one_that_does_not_makes(data):
    part = data.draw(
        st.sampled_from(ONES_OF_A_SERIES).flatmap(damaged_bytes) | st.sampled_from(ONES_OF_A_SERIES)
    )
    assert told(decoder_that_knows(*ONES_OF_A_SERIES), part) == told(decoder_that_knows(), part)


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_the_images_of_a_known_build_are_read_each_with_its_own_number_and_pixels(encoding):
    known = KnownImages()
    met = []
    for index in (2, 3, 22, 23, 24, 25, 255, 256, 65_535, 65_536, 65_537):
        part = image(index, encoding)
        if (read := known.read(part)) is None:
            known.learn(part, look_through(part, DEFAULT_LIMITS), cbor2.loads(part))
            continue
        met.append(read.index)
        assert np.array_equal(read.frame(None).unpack(DEFAULT_LIMITS), counts(index))
    assert met == [3, 22, 23, 25, 255, 65_535, 65_537]


@pytest.mark.parametrize("odd", OTHER_BUILDS.values(), ids=OTHER_BUILDS)
def test_an_image_that_differs_in_anything_else_is_of_another_build(odd):
    known = KnownImages()
    known.learn(image(FEW), look_through(image(FEW), DEFAULT_LIMITS), cbor2.loads(image(FEW)))
    as_known = cbor2.CBORTag(55799, image_map(8))
    assert known.read(cbor2.dumps(as_known)) is not None
    assert known.read(cbor2.dumps(cbor2.CBORTag(55799, image_map(8, **odd)))) is None


@pytest.mark.parametrize("tag", [28, 35, 258])
def test_a_tag_that_no_detector_sends_is_refused(tag):
    harmless, hostile = (cbor2.dumps({"type": "image", "date": cbor2.CBORTag(t, ["x"])}) for t in (40, tag))
    assert verdict(harmless) is None
    assert "tag" in verdict(hostile)


def test_a_byte_string_that_claims_more_than_there_is_does_not_stop_the_look():
    known = cbor2.dumps({"data": bytes(300)})
    for claimed in (b"\x5b" + b"\xff" * 8, b"\x59\xff\xff"):
        assert verdict(known.replace(b"\x59" + (300).to_bytes(2, "big"), claimed)) is None


def test_many_or_deeply_nested_items_are_refused():
    few = Limits(max_items=20)
    assert verdict(cbor2.dumps([1] * 10), few) is None
    assert "more than 20 items" in verdict(cbor2.dumps([1] * 30), few)
    assert "nested more than" in verdict(cbor2.dumps([[[[1]]]]), Limits(max_depth=3))
