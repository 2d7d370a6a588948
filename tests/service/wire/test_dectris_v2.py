"""DECTRIS Stream V2: recorded messages of real senders, our own sender, and damaged ones."""

import gzip
import json
import runpy
import uuid
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Image, Rejected, ScanEnd, ScanStart
from service.wire import dectris_v2
from service.wire.dectris_v2 import DectrisV2Decoder, SentSeries
from service.wire.pixels import Limits, encode_pixels

DATA = Path(__file__).parents[2] / "data"
decoded = runpy.run_path(str(Path(__file__).parent / "hostile.py"))["decoded"]
TICKIT = [(DATA / f"tickit_stream2_{kind}.cbor").read_bytes() for kind in ("start", "image", "end")]
EIGER_1M = cbor2.loads(gzip.decompress((DATA / "stream2_eiger1M_maxiv.cbor.gz").read_bytes()))

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
MASK = np.zeros(SHAPE, bool)
MASK[3, 4:7] = True
POSITIONS = np.random.default_rng(2).normal(scale=1e-6, size=(5, 2))
START = ScanStart(
    "01HRCJF83SA63WH8M5X1VBKFJM",
    SHAPE,
    np.dtype("<u2"),
    frames=5,
    wavelength_m=1.4e-10,
    distance_m=2.0,
    detector_pixel_m=75e-6,
    saturation=4095.0,
    mask=MASK,
)
SERIES = SentSeries(START, series_id=16)
RUN = str(uuid.UUID(int=7))  # of bluesky
IMAGE = {"type": "image", "series_id": 16, "image_id": 3}


def started(start=START, **options):
    decoder = DectrisV2Decoder(**options)
    decoder.decode(dectris_v2.encode_start(SentSeries(start, series_id=16)), 0)
    return decoder


def sent(fields, **changes):
    return [cbor2.dumps({**fields, **changes})]


def array(typed, shape=SHAPE):
    return cbor2.CBORTag(40, [list(shape), typed])


def packed(algorithm, element_bytes, blob):
    return cbor2.CBORTag(56500, [algorithm, element_bytes, blob])


def image_of(typed, shape=SHAPE):
    return sent(IMAGE, data={"threshold_1": array(typed, shape)})


def start_fields():
    return dict(cbor2.loads(dectris_v2.encode_start(SERIES)[0]))


def test_a_recorded_eiger_1m_series_decodes():
    decoder = DectrisV2Decoder()
    events = [event for parts in EIGER_1M for event in decoder.decode(parts, 9)]
    assert [type(event) for event in events] == [ScanStart, Image, Image, ScanEnd]
    assert {event.scan for event in events} == {"01HRCJF83SA63WH8M5X1VBKFJM"}
    start, first, second, _ = events
    assert (start.frame_shape, start.frames, start.saturation) == ((1065, 1030), 10, 2943293.0)
    assert start.dtype == first.counts.dtype == np.dtype("<u4")
    assert start.wavelength_m == pytest.approx(1.5498e-10, rel=1e-4)
    assert (start.detector_pixel_m, start.distance_m) == (75e-6, None)
    assert (first.index, second.index, first.received_ns) == (0, 1, 9)


def test_the_masked_pixels_of_the_recorded_eiger_1m_read_the_sentinel():
    decoder = DectrisV2Decoder()
    start, image = (decoder.decode(parts, 0)[0] for parts in EIGER_1M[:2])
    assert start.mask.sum() == 38_130
    assert (image.counts[start.mask] == 2**32 - 1).mean() > 0.99
    assert image.counts[~start.mask].max() < start.saturation


def test_a_recorded_series_of_the_tickit_simulator_decodes():
    decoder = DectrisV2Decoder()
    start, image, end = (decoder.decode([message], 0)[0] for message in TICKIT)
    assert (start.frame_shape, start.frames, start.dtype) == ((4362, 4148), 1, np.dtype("<u2"))
    assert start.distance_m == pytest.approx(0.23715919962215962)
    assert start.mask is None
    assert (image.index, image.counts.shape, image.counts.dtype) == (0, (4362, 4148), "<u2")
    assert image.counts.max() == 2**16 - 1
    assert np.median(image.counts) == 0
    assert isinstance(end, ScanEnd)
    assert end.scan == start.scan == image.scan == "01HBV3JPF9T4ZDPADX6EMK6XMZ"


def test_what_our_sender_says_of_a_series_is_what_the_decoder_hears():
    (start,) = DectrisV2Decoder().decode(dectris_v2.encode_start(SERIES), 0)
    assert (start.scan, start.frame_shape, start.dtype, start.frames) == (START.scan, SHAPE, "<u2", 5)
    assert start.wavelength_m == pytest.approx(1.4e-10)
    assert (start.distance_m, start.detector_pixel_m, start.saturation) == (2.0, 75e-6, 4095.0)
    assert np.array_equal(start.mask, MASK)
    assert start.positions_m is None


def test_planned_positions_and_object_pixel_travel_in_user_data():
    told = ScanStart("s", SHAPE, np.dtype("<u2"), object_pixel_m=3e-8, positions_m=POSITIONS)
    (start,) = DectrisV2Decoder().decode(dectris_v2.encode_start(SentSeries(told, 1)), 0)
    assert start.object_pixel_m == 3e-8
    assert np.array_equal(start.positions_m, POSITIONS)


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_images_of_every_type_survive_every_encoding(dtype, encoding):
    start = ScanStart("s", SHAPE, np.dtype(dtype))
    parts = dectris_v2.encode_image(SentSeries(start, 16), 3, COUNTS.astype(dtype), encoding)
    (image,) = started(start).decode(parts, 77)
    assert (image.scan, image.index, image.received_ns) == ("s", 3, 77)
    assert image.counts.dtype == np.dtype(dtype)
    assert np.array_equal(image.counts, COUNTS)


def test_big_endian_and_clamped_typed_arrays_are_read():
    (image,) = started().decode(image_of(cbor2.CBORTag(65, COUNTS.astype(">u2").tobytes())), 0)
    assert np.array_equal(image.counts, COUNTS)
    decoder = started(ScanStart("s", SHAPE, np.dtype("u1")))
    (image,) = decoder.decode(image_of(cbor2.CBORTag(68, COUNTS.astype("u1").tobytes())), 0)
    assert np.array_equal(image.counts, COUNTS)


def test_of_several_channels_the_first_is_taken_or_the_one_named():
    data = {
        name: array(cbor2.CBORTag(69, (COUNTS + extra).tobytes()))
        for name, extra in (("threshold_1", 0), ("threshold_2", 1))
    }
    start = sent(start_fields(), channels=["threshold_1", "threshold_2"], pixel_mask={})
    for channel, extra in ((None, 0), ("threshold_1", 0), ("threshold_2", 1)):
        decoder = DectrisV2Decoder(channel=channel)
        decoder.decode(start, 0)
        (image,) = decoder.decode(sent(IMAGE, data=data), 0)
        assert np.array_equal(image.counts, COUNTS + extra)


def test_a_channel_that_the_detector_does_not_send_is_refused_at_the_start():
    with pytest.raises(MessageError, match="is its threshold enabled"):
        started(channel="threshold_2")


@pytest.mark.parametrize("unique_id", ["no spaces, please", "", 7, None])
def test_a_series_without_a_usable_unique_id_is_named_by_its_number(unique_id):
    (start,) = DectrisV2Decoder().decode(sent(start_fields(), series_unique_id=unique_id), 0)
    assert start.scan == "series-16"


@pytest.mark.parametrize("user_data", [{"scan": RUN}, json.dumps({"scan": RUN, "plan": "grid"})])
def test_a_plan_names_the_scan_by_its_run_in_the_user_data(user_data):
    (start,) = DectrisV2Decoder().decode(sent(start_fields(), user_data=user_data), 0)
    assert start.scan == RUN


@pytest.mark.parametrize(
    "user_data",
    [
        "text",
        7,
        [1, 2],
        {},
        {"positions_m": "north"},
        {"positions_m": b"\0" * 15},
        {"positions_m": np.full(2, np.nan).tobytes()},
        {"object_pixel_m": -3.0, 5: None},
        {"object_pixel_m": True},
    ],
)
def test_odd_user_data_never_costs_the_series(user_data):
    (start,) = DectrisV2Decoder().decode(sent(start_fields(), user_data=user_data), 0)
    assert start.positions_m is None
    assert start.object_pixel_m is None


@pytest.mark.parametrize("number_of_images", [None, 0, 10**12, "many"])
def test_a_detector_armed_to_run_on_and_on_expects_no_number_of_frames(number_of_images):
    (start,) = DectrisV2Decoder().decode(sent(start_fields(), number_of_images=number_of_images), 0)
    assert start.frames is None


def test_a_wavelength_or_distance_of_zero_counts_as_not_told():
    fields = start_fields() | {"incident_wavelength": 0.0, "detector_translation": [0.0, 0.0, 0.0]}
    (start,) = DectrisV2Decoder().decode(sent(fields), 0)
    assert start.wavelength_m is None
    assert start.distance_m is None


def test_without_a_told_pixel_type_the_first_image_decides_it():
    fields = start_fields()
    del fields["image_dtype"]
    decoder = DectrisV2Decoder()
    decoder.decode(sent(fields), 0)
    wide, narrow = (
        image_of(cbor2.CBORTag(tag, COUNTS.astype(dtype).tobytes()))
        for tag, dtype in ((70, "<u4"), (69, "<u2"))
    )
    assert isinstance(decoder.decode(wide, 0)[0], Image)
    assert isinstance(decoder.decode(narrow, 0)[0], Rejected)


RAW = COUNTS.tobytes()
UNDECODABLE = {
    "other shape": array(cbor2.CBORTag(69, RAW), (16, 12)),
    "other pixel type": array(cbor2.CBORTag(70, COUNTS.astype("<u4").tobytes())),
    "too short": array(cbor2.CBORTag(69, RAW[:-1])),
    "too long": array(cbor2.CBORTag(69, RAW + b"\0")),
    "three sides": array(cbor2.CBORTag(69, RAW), (1, 12, 16)),
    "bignum sides": array(cbor2.CBORTag(69, RAW), (10**5000, 2)),
    "sides of text": array(cbor2.CBORTag(69, RAW), ("12", "16")),
    "no array": 7,
    "no type": array(RAW),
    "64-bit pixels": array(cbor2.CBORTag(71, RAW)),
    "no bytes": array(cbor2.CBORTag(69, "text")),
    "wrong element size": array(cbor2.CBORTag(69, packed("bslz4", 4, encode_pixels(COUNTS, "bslz4")))),
    "unknown compression": array(cbor2.CBORTag(69, packed("zip", 2, RAW))),
    "compression without bytes": array(cbor2.CBORTag(69, packed("lz4", 0, 5))),
    "two compression fields": array(cbor2.CBORTag(69, cbor2.CBORTag(56500, ["lz4", RAW]))),
    "forged size": array(cbor2.CBORTag(69, packed("bslz4", 2, (2**40).to_bytes(8, "big") + b"\0\0\x20\0"))),
    "cut short": array(cbor2.CBORTag(69, packed("bslz4", 2, encode_pixels(COUNTS, "bslz4")[:-1]))),
}


@pytest.mark.parametrize("node", UNDECODABLE.values(), ids=UNDECODABLE)
def test_a_frame_whose_pixels_cannot_be_read_is_rejected_by_number(node):
    (event,) = started().decode(sent(IMAGE, data={"threshold_1": node}), 0)
    assert (event.scan, event.index, event.reason) == (START.scan, 3, "undecodable")
    assert len(event.detail) < 200


@pytest.mark.parametrize("data", [None, {}, [], {"threshold_9": 1}])
def test_an_image_without_the_channel_is_rejected_by_number(data):
    (event,) = started().decode(sent(IMAGE, data=data), 0)
    assert (event.index, event.reason) == (3, "undecodable")


def test_strays_of_an_aborted_series_stay_with_it_when_the_next_has_begun():
    decoder = started()
    following = SentSeries(ScanStart("next", (2, 2), np.dtype("<u4"), frames=5), series_id=17)
    decoder.decode(dectris_v2.encode_start(following), 0)
    (stray,) = decoder.decode(dectris_v2.encode_image(SERIES, 4, COUNTS, "bslz4"), 0)
    assert (stray.scan, stray.counts.shape) == (START.scan, SHAPE)


def test_frames_of_a_rebooted_detector_that_counts_anew_are_not_taken_for_the_old_series():
    reborn = SentSeries(ScanStart("another-id", SHAPE, np.dtype("<u2")), series_id=16)
    start, image = started().decode(dectris_v2.encode_image(reborn, 0, COUNTS, "raw"), 0)
    assert (start.scan, image.scan) == ("another-id", "another-id")
    assert start.assumed


def test_a_second_end_is_only_told_again():
    decoder = started()
    for _ in range(2):
        (end,) = decoder.decode(dectris_v2.encode_end(SERIES), 0)
        assert (end.scan, end.frames) == (START.scan, None)


def test_only_so_many_series_are_remembered():
    decoder = started(limits=Limits(max_known_scans=1))
    decoder.decode(dectris_v2.encode_start(SentSeries(START, series_id=17)), 0)
    start, _ = decoder.decode(dectris_v2.encode_image(SERIES, 0, COUNTS, "raw"), 0)
    assert start.assumed


BAD_MESSAGES = {
    "no part": [],
    "legacy parts": [b"{}", b"{}"],
    "empty": [b""],
    "no map": [cbor2.dumps([1, 2])],
    "no type": sent({"series_id": 1}),
    "other type": sent({"type": "pause", "series_id": 1}),
    "no series": sent({"type": "end"}),
    "negative series": sent({"type": "end", "series_id": -1}),
    "bignum series": sent({"type": "end", "series_id": 10**5000}),
    "text image number": sent(IMAGE, image_id="3"),
    "true image number": sent(IMAGE, image_id=True),
    "image number above the limit": sent(IMAGE, image_id=2**24),
    "bytes of 2**40": [b"\xa1\x64data\x5b" + (2**40).to_bytes(8, "big")],
    "array of 2**40": [b"\xa1\x64data\x9b" + (2**40).to_bytes(8, "big")],
    "nesting without end": [b"\xa1\x64data" + b"\x81" * 100_000],
    "bad text": [b"\xa1\x62\xff\xff\x01"],
    "a number too large to hold": [cbor2.dumps({"x": cbor2.CBORTag(5, [10**9, 3])})],
    "a day too far": [cbor2.dumps({"x": cbor2.CBORTag(100, 10**12)})],
}
BAD_STARTS = {
    "no size": {"image_size_x": None},
    "no pixels": {"image_size_y": 0},
    "2**40 pixels": {"image_size_x": 2**20, "image_size_y": 2**20},
    "bignum size": {"image_size_x": 10**5000},
    "signed pixels": {"image_dtype": "int16"},
    "mask of another size": {"pixel_mask": {"threshold_1": array(cbor2.CBORTag(70, b"\0" * 16), (2, 2))}},
    "damaged mask": {"pixel_mask": {"threshold_1": array(cbor2.CBORTag(70, b"\0" * 7))}},
}


@pytest.mark.parametrize("parts", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_breaks_the_format_is_refused_whole(parts):
    with pytest.raises(MessageError):
        started().decode(parts, 0)


@pytest.mark.parametrize("change", BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_start_that_cannot_be_is_refused(change):
    with pytest.raises(MessageError, match="series 16"):
        DectrisV2Decoder().decode(sent(start_fields(), **change), 0)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=20)
)
NODES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.builds(cbor2.CBORTag, st.sampled_from([40, 64, 69, 70, 85, 56500]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(sorted(start_fields())), value=NODES)
def test_any_value_under_any_key_of_a_start_gives_events_or_a_stream_error(key, value):
    assert decoded(DectrisV2Decoder().decode, sent(start_fields(), **{key: value}), 0)


@settings(max_examples=300, deadline=None)
@given(value=NODES)
def test_any_value_in_the_place_of_pixels_costs_only_its_frame(value):
    (event,) = started().decode(sent(IMAGE, data={"threshold_1": value}), 0)
    assert isinstance(event, Rejected)


@settings(max_examples=300, deadline=None)
@given(data=NODES)
def test_any_value_in_the_place_of_the_channels_costs_only_its_frame_and_so_does_the_next_such(data):
    decoder = DectrisV2Decoder()  # without a start that names a channel
    for _ in range(2):
        (event,) = decoder.decode(sent(IMAGE, data=data), 0)
        assert isinstance(event, Rejected)
