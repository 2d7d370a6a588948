"""DECTRIS Stream V1: a recorded series of a real detector, and our own sender."""

import gzip
import hashlib
import json
import runpy
import uuid
from pathlib import Path

import cbor2
import numpy as np
import pytest

from service.messages import Image, Rejected, ScanEnd, ScanStart
from service.wire import dectris_v1
from service.wire.dectris_v1 import DectrisV1Decoder, SentSeries
from service.wire.pixels import Limits, encode_pixels

DATA = Path(__file__).parents[2] / "data"
EIGER_1M = cbor2.loads(gzip.decompress((DATA / "stream1_eiger1M_maxiv.cbor.gz").read_bytes()))

V1 = runpy.run_path(str(Path(__file__).parent / "dectris_v1_messages.py"))
SHAPE, COUNTS, MASK, POSITIONS, SERIES, HEADER, IMAGE, END, started, part, header, image, START = (
    V1[name]
    for name in (
        "SHAPE",
        "COUNTS",
        "MASK",
        "POSITIONS",
        "SERIES",
        "HEADER",
        "IMAGE",
        "END",
        "started",
        "part",
        "header",
        "image",
        "START",
    )
)


def test_a_recorded_eiger_1m_series_decodes_though_its_end_never_came():
    decoder = DectrisV1Decoder()
    start, *images = [event for parts in EIGER_1M for event in decoder.decode(parts, 9)]
    assert (start.scan, start.frame_shape, start.dtype) == ("series-14", (1065, 1030), np.dtype("<u4"))
    assert (start.frames, start.saturation, start.distance_m) == (100_000, 2943293.0, None)
    assert start.wavelength_m == pytest.approx(1.5498e-10, rel=1e-4)
    assert start.detector_pixel_m == 75e-6
    assert [(type(event), event.index, event.received_ns) for event in images] == [
        (Image, index, 9) for index in range(9)
    ]


def test_the_masked_pixels_of_the_recorded_eiger_1m_read_the_sentinel():
    decoder = DectrisV1Decoder()
    start, image = (decoder.decode(parts, 0)[0] for parts in EIGER_1M[:2])
    assert start.mask.sum() == 38_129
    assert (image.counts[start.mask] == 2**32 - 1).all()
    unmasked = image.counts[~start.mask]
    assert (unmasked == 2**32 - 1).sum() == 181  # a part of one column that the detector has not in its mask
    assert unmasked[unmasked < 2**32 - 1].max() < start.saturation


def test_what_our_sender_says_of_a_series_is_what_the_decoder_hears():
    (start,) = DectrisV1Decoder().decode(HEADER, 0)
    assert (start.scan, start.frame_shape, start.dtype, start.frames) == ("star", SHAPE, "<u2", 5)
    assert start.wavelength_m == pytest.approx(1.4e-10)
    assert (start.distance_m, start.detector_pixel_m, start.object_pixel_m) == (2.0, 75e-6, 3e-8)
    assert start.saturation == 4095.0
    assert np.array_equal(start.mask, MASK)
    assert np.array_equal(start.positions_m, POSITIONS)
    assert start.assumed == ""


def test_a_scan_without_a_mask_is_announced_without_tables():
    bare = dectris_v1.encode_header(SentSeries(ScanStart("bare", SHAPE, np.dtype("<u2")), 1))
    assert len(bare) == 2
    (start,) = DectrisV1Decoder().decode(bare, 0)
    assert (start.scan, start.mask, start.positions_m, start.frames) == ("bare", None, None, None)


@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_images_of_every_type_survive_every_encoding(dtype, encoding):
    parts = dectris_v1.encode_image(SERIES, 3, COUNTS.astype(dtype), encoding)
    (image,) = started().decode(parts, 77)
    assert (image.scan, image.index, image.received_ns) == ("star", 3, 77)
    assert image.counts.dtype == np.dtype(dtype)
    assert np.array_equal(image.counts, COUNTS)


def test_our_images_are_named_and_hashed_as_the_recorded_detector_does():
    ours, recorded = (json.loads(parts[0]) for parts in (IMAGE, EIGER_1M[1]))
    assert ours.keys() == recorded.keys()
    assert json.loads(IMAGE[1]).keys() == json.loads(EIGER_1M[1][1]).keys()
    assert json.loads(IMAGE[1])["encoding"] == "bs16-lz4<"
    for parts, told in ((IMAGE, ours), (EIGER_1M[1], recorded)):
        assert told["hash"] == hashlib.md5(parts[1]).hexdigest()


@pytest.mark.parametrize(
    ("blob", "encoding"),
    [
        (COUNTS.astype(">u2").tobytes(), ">"),
        (encode_pixels(COUNTS, "lz4"), "-lz4<"),
        (encode_pixels(COUNTS, "bslz4"), "bs16lz4<"),
        (encode_pixels(COUNTS, "bslz4"), "bs16-lz4"),
        (encode_pixels(COUNTS.byteswap(), "bslz4"), "bs16-lz4>"),
    ],
)
def test_every_way_to_write_an_encoding_is_read(blob, encoding):
    (event,) = started().decode(image(blob, encoding=encoding), 0)
    assert np.array_equal(event.counts, COUNTS)


def test_an_image_with_an_appendix_decodes():
    (event,) = started().decode([*image(), b"sample A"], 0)
    assert isinstance(event, Image)


@pytest.mark.parametrize(
    ("mode", "images", "triggers", "expected"),
    [
        ("ints", 100, 3, 300),
        ("exts", 100, 3, 300),
        ("exte", 1, 516, 516),
        ("inte", 1, 516, 516),
        (None, 7, 1, 7),
        ("ints", 0, 1, None),
        ("exts", 1, 10**12, None),
        ("ints", "many", 1, None),
        ("ints", True, 1, None),
        ("ints", None, 5, None),
    ],
)
def test_the_expected_frames_follow_from_the_trigger_mode(mode, images, triggers, expected):
    parts = header(trigger_mode=mode, nimages=images, ntrigger=triggers)
    (start,) = DectrisV1Decoder().decode(parts, 0)
    assert start.frames == expected


def test_lengths_that_nobody_set_count_as_not_told():
    parts = header(
        wavelength=0.0, detector_distance=0.0, x_pixel_size="75 um", detector_translation=[0, 0, 0]
    )
    (start,) = DectrisV1Decoder().decode(parts, 0)
    assert (start.wavelength_m, start.distance_m, start.detector_pixel_m) == (None, None, None)


def test_the_translation_along_the_beam_is_a_distance_too():
    parts = header(detector_distance=None, detector_translation=[0.0, 0.0, -1.5])
    assert DectrisV1Decoder().decode(parts, 0)[0].distance_m == 1.5


def test_a_header_of_no_detail_waits_for_the_shape_of_its_first_image():
    decoder = DectrisV1Decoder()
    assert decoder.decode(header("none"), 0) == []
    start, first = decoder.decode(image(), 0)
    assert (start.frame_shape, start.dtype, start.assumed) == (SHAPE, np.dtype("<u2"), "")
    assert (first.scan, first.index) == (start.scan, 3)
    (second,) = decoder.decode(image(frame=4), 0)
    assert isinstance(second, Image)


def test_an_unreadable_first_image_of_a_header_without_detail_costs_only_itself():
    decoder = DectrisV1Decoder()
    decoder.decode(header("none"), 0)
    (event,) = decoder.decode(image(b""), 0)
    assert (event.index, event.reason) == (3, "undecodable")
    assert [type(event) for event in decoder.decode(image(frame=4), 0)] == [ScanStart, Image]


def test_the_pixel_type_of_the_first_image_counts_and_not_the_configured_one():
    decoder = DectrisV1Decoder()
    decoder.decode(header(bit_depth_image=32), 0)
    assert isinstance(decoder.decode(image(), 0)[0], Image)
    wide = image(COUNTS.astype("<u4").tobytes(), type="uint32")
    assert isinstance(decoder.decode(wide, 0)[0], Rejected)


@pytest.mark.parametrize("bits", [8.0, "16", True, 12, None, [32]])
def test_an_odd_bit_depth_counts_as_not_told(bits):
    (start,) = DectrisV1Decoder().decode(header(bit_depth_image=bits), 0)
    assert start.dtype == np.dtype("<u4")


def test_a_series_without_a_header_begins_with_what_its_first_image_tells():
    start, image, *_ = [e for n in (3, 4) for e in DectrisV1Decoder().decode(IMAGE, n)]
    assert (start.scan, start.frame_shape, start.dtype, start.frames) == ("series-16", SHAPE, "<u2", None)
    assert "12 × 16 uint16 as image 3 has" in start.assumed
    assert np.array_equal(image.counts, COUNTS)


def test_a_header_that_comes_after_all_takes_the_place_of_what_was_assumed():
    decoder = DectrisV1Decoder()
    decoder.decode(IMAGE, 0)
    (start,) = decoder.decode(HEADER, 0)
    (image,) = decoder.decode(IMAGE, 0)
    assert (start.assumed, start.scan, image.scan) == ("", "star", "star")


def test_an_unreadable_image_begins_no_series():
    decoder = DectrisV1Decoder()
    for _ in range(2):
        (event,) = decoder.decode(image(b"\0"), 0)
        assert (event.scan, event.index, event.reason) == ("series-16", 3, "no_header")
        assert "never started here" in event.detail


def test_strays_of_an_aborted_series_stay_with_it_when_the_next_has_begun():
    decoder = started()
    following = SentSeries(ScanStart("next", (2, 2), np.dtype("<u4")), 17)
    decoder.decode(dectris_v1.encode_header(following), 0)
    (stray,) = decoder.decode(IMAGE, 0)
    assert (stray.scan, stray.counts.shape) == ("star", SHAPE)


def test_an_end_that_overtakes_the_last_images_and_comes_twice_is_told_each_time():
    decoder = started()
    events = [event for parts in (END, IMAGE, END) for event in decoder.decode(parts, 0)]
    assert [type(event) for event in events] == [ScanEnd, Image, ScanEnd]
    assert {event.scan for event in events} == {"star"}
    assert events[0].frames is None


def test_the_end_of_a_series_that_never_started_names_the_scan_it_would_have_been():
    assert DectrisV1Decoder().decode(END, 0)[0].scan == "series-16"


def test_only_so_many_series_are_remembered():
    decoder = started(limits=Limits(max_known_scans=1))
    decoder.decode(dectris_v1.encode_header(SentSeries(START, number=17)), 0)
    start, _ = decoder.decode(IMAGE, 0)
    assert start.assumed


def test_a_plan_names_the_scan_by_its_run_in_the_headers_appendix():
    run = str(uuid.UUID(int=7))  # of bluesky
    head, configuration, *tables = header()
    told = {key: value for key, value in json.loads(configuration).items() if key != "ptycholive"}
    appendix = json.dumps({"scan": run, "plan": "grid"}).encode()
    (start,) = DectrisV1Decoder().decode([head, json.dumps(told).encode(), *tables, appendix], 0)
    assert start.scan == run


@pytest.mark.parametrize("appendix", [b"", b"text", b'{"filename": "a.h5"}', b"[" * 100_000])
def test_an_appendix_of_the_header_is_the_users_own(appendix):
    (start,) = DectrisV1Decoder().decode([*header(), appendix], 0)
    assert (start.scan, start.frame_shape) == ("star", SHAPE)


@pytest.mark.parametrize("note", [7, [], "text", {"scan": 7}, {"scan": "no spaces, please"}, {"frames": -1}])
def test_an_odd_note_in_the_configuration_never_costs_the_series(note):
    (start,) = DectrisV1Decoder().decode(header(ptycholive=note), 0)
    assert (start.scan, start.positions_m, start.frame_shape) == ("series-16", None, SHAPE)


def test_damaged_positions_in_the_note_cost_only_the_positions():
    note = {"scan": "named", "positions_m": "AAAA"}
    (start,) = DectrisV1Decoder().decode(header(ptycholive=note), 0)
    assert (start.scan, start.positions_m) == ("named", None)


def test_the_planned_positions_of_a_large_raster_fit_into_the_header():
    positions_m = np.random.default_rng(3).normal(size=(128 * 512, 2))
    large = SentSeries(ScanStart("large", SHAPE, np.dtype("<u2"), positions_m=positions_m), 1)
    (start,) = DectrisV1Decoder().decode(dectris_v1.encode_header(large), 0)
    assert np.array_equal(start.positions_m, positions_m)


def test_the_few_bytes_that_simulators_send_for_a_mask_tell_nothing():
    tables = [*HEADER[2:5], b'{"blob": "blob"}', *HEADER[6:8]]
    (start,) = DectrisV1Decoder().decode([*HEADER[:2], *tables], 0)
    assert start.mask is None
