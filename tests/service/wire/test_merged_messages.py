"""A sender that puts all that waits to be sent into one message, as Diamond's Eiger simulator does."""

import itertools

import numpy as np
import pytest

from service.messages import Image, ScanEnd, ScanStart
from service.wire import dectris_v1, dectris_v2
from service.wire.dectris_v1 import DectrisV1Decoder
from service.wire.dectris_v2 import DectrisV2Decoder

FRAMES = 4
COUNTS = np.arange(FRAMES * 16, dtype="<u2").reshape(FRAMES, 4, 4)
START = ScanStart("merged", (4, 4), COUNTS.dtype, FRAMES)


def sent(format_, encoding):
    """Return the messages of a series: start, images, end."""
    wire = {"dectris-v1": dectris_v1, "dectris-v2": dectris_v2}[format_]
    series = wire.SentSeries(START, 1)
    begin = wire.encode_header if format_ == "dectris-v1" else wire.encode_start
    images = [wire.encode_image(series, n, COUNTS[n], encoding) for n in range(FRAMES)]
    return [begin(series), *images, wire.encode_end(series)]


@pytest.mark.parametrize("format_", ["dectris-v1", "dectris-v2"])
@pytest.mark.parametrize("at_once", [1, 2, 3, 6])
def test_however_many_messages_are_merged_into_one_every_frame_is_read(format_, at_once):
    decoder = {"dectris-v1": DectrisV1Decoder, "dectris-v2": DectrisV2Decoder}[format_]()
    messages = sent(format_, "bslz4")
    merged = [list(itertools.chain(*messages[n : n + at_once])) for n in range(0, len(messages), at_once)]
    events = [event for parts in merged for event in decoder.decode(parts, 0)]
    assert [type(event) for event in events] == [ScanStart, *[Image] * FRAMES, ScanEnd]
    for number, image in enumerate(events[1:-1]):
        assert image.index == number
        np.testing.assert_array_equal(image.counts, COUNTS[number])


def test_pixels_that_look_like_the_head_of_an_image_are_pixels():
    series = dectris_v1.SentSeries(START, 1)
    disguised = dectris_v1.encode_end(series)[0].ljust(48)
    pixels = np.frombuffer(disguised, "<u2").reshape(4, 6)
    header = dectris_v1.encode_header(dectris_v1.SentSeries(ScanStart("s", (4, 6), COUNTS.dtype, 1), 1))
    decoder = DectrisV1Decoder()
    decoder.decode(header, 0)
    (image,) = decoder.decode(dectris_v1.encode_image(series, 0, pixels, "raw"), 0)
    np.testing.assert_array_equal(image.counts, pixels)
