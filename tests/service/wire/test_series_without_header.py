"""DECTRIS Stream V2: a series whose start was missed, the detector armed before the service was up."""

import cbor2
import numpy as np
import pytest

from service.messages import Image, ScanEnd, ScanStart
from service.wire import dectris_v2
from service.wire.dectris_v2 import DectrisV2Decoder, SentSeries

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
START = ScanStart("01HRCJF83SA63WH8M5X1VBKFJM", SHAPE, np.dtype("<u2"), frames=5)
SERIES = SentSeries(START, series_id=16)
RAW = COUNTS.tobytes()


def array(typed, shape=SHAPE):
    return cbor2.CBORTag(40, [list(shape), typed])


def image_with(data, **fields):
    told = {"type": "image", "series_id": 16, "image_id": 3, "data": data, **fields}
    return [cbor2.dumps(told)]


def image_of(typed, shape=SHAPE):
    return image_with({"threshold_1": array(typed, shape)})


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["<u1", ">u2", "<u4"])
def test_a_series_without_a_header_begins_with_what_its_first_image_tells(dtype, encoding):
    counts = COUNTS.astype(dtype)
    if dtype == ">u2":
        parts = image_of(cbor2.CBORTag(65, counts.tobytes()))
    else:
        series = SentSeries(ScanStart("s", SHAPE, counts.dtype), 16)
        parts = dectris_v2.encode_image(series, 3, counts, encoding)
    start, image = DectrisV2Decoder().decode(parts, 77)
    assert (start.frame_shape, start.dtype, start.frames) == (SHAPE, np.dtype(dtype).newbyteorder("<"), None)
    assert (start.mask, start.object_pixel_m, start.wavelength_m) == (None, None, None)
    assert f"12 × 16 {np.dtype(dtype).name} as image 3 has" in start.assumed
    assert (image.scan, image.index, image.received_ns) == (start.scan, 3, 77)
    assert np.array_equal(image.counts, COUNTS)


def test_only_the_first_image_begins_a_series_without_a_header():
    decoder = DectrisV2Decoder()
    events = [
        event
        for index in (2, 3, 4)
        for event in decoder.decode(dectris_v2.encode_image(SERIES, index, COUNTS, "bslz4"), 0)
    ]
    events += decoder.decode(dectris_v2.encode_end(SERIES), 0)
    assert [type(event) for event in events] == [ScanStart, Image, Image, Image, ScanEnd]
    assert {event.scan for event in events} == {START.scan}


@pytest.mark.parametrize(
    ("unique_id", "scan"), [("01HRC", "01HRC"), (None, "series-16"), ("not legal!", "series-16")]
)
def test_a_series_without_a_header_is_named_as_its_start_would_have_named_it(unique_id, scan):
    parts = image_with({"threshold_1": array(cbor2.CBORTag(69, RAW))}, series_unique_id=unique_id)
    assert {event.scan for event in DectrisV2Decoder().decode(parts, 0)} == {scan}


def test_a_series_without_a_header_takes_the_channel_that_was_asked_for():
    first, second = (array(cbor2.CBORTag(69, (COUNTS + n).tobytes())) for n in (0, 1))
    parts = image_with({"threshold_1": first, "threshold_2": second})
    _, image = DectrisV2Decoder(channel="threshold_2").decode(parts, 0)
    assert np.array_equal(image.counts, COUNTS + 1)
    (event,) = DectrisV2Decoder(channel="threshold_3").decode(parts, 0)
    assert event.reason == "no_header"


def test_later_images_of_a_series_without_a_header_must_be_like_the_first():
    decoder = DectrisV2Decoder()
    decoder.decode(image_of(cbor2.CBORTag(69, RAW)), 0)
    (event,) = decoder.decode(image_of(cbor2.CBORTag(69, RAW), (16, 12)), 0)
    assert (event.scan, event.reason) == ("series-16", "undecodable")


def test_a_header_that_comes_after_all_takes_the_place_of_what_was_assumed():
    decoder = DectrisV2Decoder()
    decoder.decode(dectris_v2.encode_image(SERIES, 2, COUNTS, "raw"), 0)
    (start,) = decoder.decode(dectris_v2.encode_start(SERIES), 0)
    (image,) = decoder.decode(dectris_v2.encode_image(SERIES, 3, COUNTS, "raw"), 0)
    assert (start.assumed, start.frames) == ("", 5)
    assert image.scan == start.scan


UNREADABLE = {
    "no channel": {},
    "no map": [],
    "no array": {"threshold_1": 7},
    "no type": {"threshold_1": array(RAW)},
    "too short": {"threshold_1": array(cbor2.CBORTag(69, RAW[:-1]))},
    "no pixels": {"threshold_1": array(cbor2.CBORTag(69, b""), (0, 16))},
    "2**40 pixels": {"threshold_1": array(cbor2.CBORTag(69, RAW), (2**20, 2**20))},
    "damaged": {"threshold_1": array(cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 2, RAW[:40]])))},
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_image_begins_no_series(data):
    decoder = DectrisV2Decoder()
    for _ in range(2):
        (event,) = decoder.decode(image_with(data), 0)
        assert (event.scan, event.index, event.reason) == ("series-16", 3, "no_header")
        assert "never started here" in event.detail
        assert len(event.detail) < 250


def test_an_end_of_a_series_that_never_started_names_the_scan_it_would_have_been():
    (end,) = DectrisV2Decoder().decode(dectris_v2.encode_end(SERIES), 0)
    assert end.scan == START.scan
