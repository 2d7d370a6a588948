"""DECTRIS Stream V1 behind a proxy: parts as messages of their own, some of them lost."""

import gzip
import json
from pathlib import Path

import cbor2
import numpy as np
import pytest

from service.errors import MessageError
from service.messages import Image, Rejected, ScanEnd, ScanStart
from service.wire import dectris_v1
from service.wire.dectris_v1 import DectrisV1Decoder, SentSeries
from service.wire.pixels import Limits

DATA = Path(__file__).parents[2] / "data"
EIGER_1M = cbor2.loads(gzip.decompress((DATA / "stream1_eiger1M_maxiv.cbor.gz").read_bytes()))

SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, SHAPE).astype("<u2")
MASK = np.eye(*SHAPE, dtype=bool)
SERIES = SentSeries(ScanStart("star", SHAPE, COUNTS.dtype, frames=3, mask=MASK), 16)
HEADER = dectris_v1.encode_header(SERIES)
IMAGES = [dectris_v1.encode_image(SERIES, index, COUNTS, "bslz4") for index in range(3)]
END = dectris_v1.encode_end(SERIES)


def heard(messages, decoder=None):
    """Return the events of messages, each a list of parts."""
    decoder = decoder or DectrisV1Decoder()
    return [event for parts in messages for event in decoder.decode(parts, 0)]


def flattened(messages):
    return [[part] for parts in messages for part in parts]


def kinds(events):
    return [type(event) for event in events]


def basic_header():
    detail = json.loads(HEADER[0]) | {"header_detail": "basic"}
    return [json.dumps(detail).encode(), HEADER[1]]


def test_a_recorded_series_decodes_alike_whether_flattened_or_not():
    whole, flat = heard(EIGER_1M), heard(flattened(EIGER_1M))
    assert kinds(flat) == kinds(whole) == [ScanStart, *[Image] * 9]
    assert np.array_equal(flat[0].mask, whole[0].mask)
    assert all(np.array_equal(a.counts, b.counts) for a, b in zip(flat[1:], whole[1:], strict=True))


@pytest.mark.parametrize(
    "header", [HEADER, basic_header(), [*HEADER, b"mine"]], ids=["all", "basic", "appendix"]
)
def test_a_flattened_series_keeps_every_frame(header):
    events = heard(flattened([header, *IMAGES, END]))
    assert kinds(events) == [ScanStart, Image, Image, Image, ScanEnd]
    assert [image.index for image in events[1:4]] == [0, 1, 2]
    assert {event.scan for event in events} == {"star"}


def test_flattened_images_with_appendices_keep_their_numbers():
    images = [[*parts, b'{"sample": "A"}'] for parts in IMAGES]
    assert kinds(heard(flattened([HEADER, *images, END]))) == [ScanStart, *[Image] * 3, ScanEnd]


@pytest.mark.parametrize("parts_ahead", range(1, 8))
def test_a_header_may_be_cut_into_two_messages_anywhere(parts_ahead):
    (start,) = heard([HEADER[:parts_ahead], HEADER[parts_ahead:]])
    assert (start.scan, start.frames) == ("star", 3)
    assert np.array_equal(start.mask, MASK)


def test_a_header_whose_tables_never_come_is_told_with_the_first_image():
    start, image = heard([HEADER[:2], IMAGES[0]])
    assert (start.frame_shape, start.frames, start.mask, start.assumed) == (SHAPE, 3, None, "")
    assert image.scan == start.scan


def test_a_lost_configuration_leaves_the_shape_to_the_first_image():
    start, image = heard([HEADER[:1], IMAGES[0]])
    assert (start.frame_shape, start.frames, start.assumed) == (SHAPE, None, "")
    assert image.index == 0


def test_a_damaged_header_that_was_cut_short_does_not_cost_the_image_that_follows():
    start, image = heard([[HEADER[0], b"\xff"], IMAGES[0]])
    assert start.assumed
    assert isinstance(image, Image)


@pytest.mark.parametrize("lost", [1, 2])
def test_an_image_that_lost_a_part_on_the_way_costs_only_itself(lost):
    broken = [part for number, part in enumerate(IMAGES[1]) if number != lost]
    events = heard(flattened([HEADER, IMAGES[0], broken, IMAGES[2], END]))
    assert kinds(events) == [ScanStart, Image, Rejected, Image, ScanEnd]
    assert (events[2].index, events[2].reason) == (1, "undecodable")


def test_an_image_cut_short_before_the_next_is_rejected_by_number():
    events = heard([HEADER, IMAGES[0][:2], IMAGES[1]])
    assert kinds(events) == [ScanStart, Rejected, Image]
    assert "does a proxy lose messages" in events[1].detail


def test_parts_that_continue_nothing_are_refused():
    decoder = DectrisV1Decoder()
    for part in (IMAGES[0][1], IMAGES[0][2], HEADER[1]):
        with pytest.raises(MessageError, match="is this Stream V1"):
            decoder.decode([part], 0)
    assert kinds(heard([HEADER, *IMAGES], decoder)) == [ScanStart, Image, Image, Image]


def test_the_parts_of_one_message_may_not_take_more_memory_than_one_message():
    decoder = DectrisV1Decoder(Limits(max_message_bytes=1500))
    heard([HEADER[:2], [bytes(900)]], decoder)
    with pytest.raises(MessageError, match="max_message_bytes"):
        decoder.decode([bytes(900)], 0)
