"""The native stream, as bytes: what a well-behaved sender gets through, and what others get."""

import msgspec
import numpy as np
import pytest

from service.errors import MessageError
from service.messages import Image, Positions, Rejected, ScanEnd, ScanStart
from service.wire import native
from service.wire.native import NativeDecoder
from service.wire.pixels import Limits

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, (4, *SHAPE)).astype("<u2")
POSITIONS = np.random.default_rng(2).normal(scale=1e-6, size=(4, 2))
START = ScanStart(
    "star.1",
    SHAPE,
    np.dtype("<u2"),
    frames=4,
    wavelength_m=1.4e-10,
    distance_m=2.0,
    detector_pixel_m=75e-6,
    saturation=4095.0,
    positions_m=POSITIONS,
)
HEAD = msgspec.msgpack.encode


def started(**changes):
    decoder = NativeDecoder(**changes)
    decoder.decode(native.encode_start(START), 0)
    return decoder


def frames_head(**changes):
    fields = {"type": "frames", "scan": "star.1", "first": 0, "count": 4, "encoding": "raw"}
    return HEAD({**fields, **changes})


def test_a_start_message_tells_the_geometry_and_the_planned_positions():
    (start,) = NativeDecoder().decode(native.encode_start(START), 0)
    assert (start.scan, start.frame_shape, start.dtype, start.frames) == ("star.1", SHAPE, "<u2", 4)
    assert (start.wavelength_m, start.distance_m, start.detector_pixel_m) == (1.4e-10, 2.0, 75e-6)
    assert start.saturation == 4095.0
    assert np.array_equal(start.positions_m, POSITIONS)


def test_a_start_without_payload_has_no_planned_positions():
    (start,) = NativeDecoder().decode(native.encode_start(START)[:1], 0)
    assert start.positions_m is None


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<f4"])
@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_each_frame_of_a_message_becomes_one_image_with_its_number_and_arrival(dtype, encoding):
    decoder = NativeDecoder()
    decoder.decode(native.encode_start(ScanStart("s", SHAPE, np.dtype(dtype))), 0)
    images = decoder.decode(native.encode_frames("s", 7, COUNTS.astype(dtype), encoding), 123)
    assert [(image.scan, image.index, image.received_ns) for image in images] == [
        ("s", index, 123) for index in range(7, 11)
    ]
    assert all(np.array_equal(image.counts, COUNTS[place]) for place, image in enumerate(images))


def test_positions_in_a_frames_message_come_before_its_images():
    positions, *images = started().decode(native.encode_frames("star.1", 2, COUNTS, "raw", POSITIONS), 0)
    assert isinstance(positions, Positions)
    assert positions.first == 2
    assert np.array_equal(positions.positions_m, POSITIONS)
    assert [image.index for image in images] == [2, 3, 4, 5]


def test_a_positions_stream_needs_no_start_of_its_own():
    (positions,) = NativeDecoder().decode(native.encode_positions(Positions("star.1", 9, POSITIONS)), 0)
    assert (positions.scan, positions.first) == ("star.1", 9)
    assert np.array_equal(positions.positions_m, POSITIONS)


@pytest.mark.parametrize("frames", [4, None])
def test_the_end_tells_how_many_frames_were_sent(frames):
    (end,) = NativeDecoder().decode(native.encode_end(ScanEnd("star.1", frames)), 0)
    assert (end.scan, end.frames) == ("star.1", frames)


@pytest.mark.parametrize(
    "payload", [b"", COUNTS.tobytes()[:-1], COUNTS.tobytes() + b"\0", COUNTS.astype("<u4").tobytes()]
)
def test_every_frame_of_an_undecodable_message_is_accounted_for(payload):
    events = started().decode([frames_head(first=8), payload], 0)
    assert [(event.index, event.reason) for event in events] == [
        (index, "undecodable") for index in range(8, 12)
    ]
    assert all(isinstance(event, Rejected) and event.detail for event in events)


@pytest.mark.parametrize("positions", [POSITIONS.tobytes()[:-8], np.full((4, 2), np.nan).tobytes(), b""])
def test_frames_with_impossible_positions_are_rejected_by_number(positions):
    events = started().decode([frames_head(positions_m=positions), COUNTS.tobytes()], 0)
    assert [(event.index, event.reason) for event in events] == [(index, "undecodable") for index in range(4)]


def test_frames_of_a_scan_that_never_started_say_that_the_header_is_lost():
    events = NativeDecoder().decode(native.encode_frames("lost", 0, COUNTS, "raw"), 0)
    assert [(event.scan, event.index, event.reason) for event in events] == [
        ("lost", index, "no_header") for index in range(4)
    ]


def test_a_new_start_of_the_same_name_replaces_the_geometry():
    decoder = started()
    decoder.decode(native.encode_start(ScanStart("star.1", (2, 2), np.dtype("<u1"))), 0)
    (image,) = decoder.decode(native.encode_frames("star.1", 0, np.ones((1, 2, 2), "u1"), "raw"), 0)
    assert image.counts.shape == (2, 2)


def test_late_frames_of_the_scan_before_keep_their_own_geometry():
    decoder = started()
    decoder.decode(native.encode_start(ScanStart("next", (2, 2), np.dtype("<u1"))), 0)
    late = decoder.decode(native.encode_frames("star.1", 0, COUNTS, "bslz4"), 0)
    assert [type(event) for event in late] == [Image] * 4
    assert late[0].counts.shape == SHAPE


def test_only_so_many_scans_are_remembered():
    decoder = started(limits=Limits(max_known_scans=2))
    for name in ("b", "c"):
        decoder.decode(native.encode_start(ScanStart(name, SHAPE, np.dtype("<u2"))), 0)
    assert decoder.decode(native.encode_frames("star.1", 0, COUNTS, "raw"), 0)[0].reason == "no_header"
    assert isinstance(decoder.decode(native.encode_frames("c", 0, COUNTS, "raw"), 0)[0], Image)


def test_keys_of_a_newer_sender_are_skipped():
    (end,) = NativeDecoder().decode(
        [HEAD({"type": "end", "scan": "s", "frames": 1, "mood": [1, {"a": 2}]})], 0
    )
    assert end.frames == 1


DEEP = b"\x83\xa4type\xa3end\xa4scan\xa1s\xa4mood" + b"\x91" * 100_000
BAD_MESSAGES = {
    "no part": [],
    "three parts": [b"", b"", b""],
    "empty map": [b"\x80"],
    "no map": [b"\x01"],
    "no msgpack": [b"\xc1"],
    "bytes after the map": [HEAD({"type": "end", "scan": "s", "frames": 1}) + b"x"],
    "array of 2**32 items": [b"\x82\xa4type\xa5start\xabframe_shape\xdd\xff\xff\xff\xff"],
    "nesting without end": [DEEP],
    "unknown type": [HEAD({"type": "stop", "scan": "s"})],
    "empty name": [HEAD({"type": "end", "scan": "", "frames": 1})],
    "long name": [HEAD({"type": "end", "scan": "a" * 129, "frames": 1})],
    "name with a path": [HEAD({"type": "end", "scan": "../etc", "frames": 1})],
    "name with a line end": [HEAD({"type": "end", "scan": "a\n", "frames": 1})],
    "negative frame": [frames_head(first=-1)],
    "frame above the limit": [frames_head(first=2**24 - 3)],
    "no frame": [frames_head(count=0)],
    "2**31 frames": [frames_head(count=2**31)],
    "5000 frames": [frames_head(count=5000)],
    "unknown encoding": [frames_head(encoding="jpeg")],
    "fractional count": [frames_head(count=1.5)],
    "positions cut short": [HEAD({"type": "positions", "scan": "s", "first": 0, "count": 2}), b"\0" * 31],
    "positions missing": [HEAD({"type": "positions", "scan": "s", "first": 0, "count": 2})],
    "infinite position": [
        HEAD({"type": "positions", "scan": "s", "first": 0, "count": 1}),
        np.array([0, np.inf]).tobytes(),
    ],
    "positions for more frames": [native.encode_start(START)[0], POSITIONS[:3].tobytes()],
    "huge map": [HEAD({"type": "end", "scan": "s", "frames": 1, "x": b"\0" * (1 << 20)})],
}
BAD_STARTS = {
    "other version": {"v": 2},
    "three sides": {"frame_shape": [4, 4, 4]},
    "no pixels": {"frame_shape": [0, 4]},
    "2**40 pixels": {"frame_shape": [2**20, 2**20]},
    "signed pixels": {"dtype": "<i2"},
    "big-endian pixels": {"dtype": ">u2"},
    "negative wavelength": {"wavelength_m": -1.0},
    "wavelength of nan": {"wavelength_m": float("nan")},
    "endless distance": {"distance_m": float("inf")},
    "2**40 frames": {"frames": 2**40},
}


@pytest.mark.parametrize("parts", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_message_that_breaks_the_format_is_refused_whole(parts):
    with pytest.raises(MessageError):
        started().decode(parts, 0)


@pytest.mark.parametrize("change", BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_start_that_cannot_be_is_refused(change):
    fields = {"type": "start", "v": 1, "scan": "s", "frame_shape": [4, 4], "dtype": "<u2"}
    assert NativeDecoder().decode([HEAD(fields)], 0)
    with pytest.raises(MessageError):
        NativeDecoder().decode([HEAD({**fields, **change})], 0)
