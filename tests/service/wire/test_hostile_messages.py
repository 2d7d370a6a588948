"""Every decoder against damaged messages: a `StreamError` at worst, little memory, and no standing still."""

import runpy
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.messages import Image, Positions, ScanStart
from service.sources import decoder_for
from service.streams import positions_decoder
from service.wire import native, pixels
from service.wire.encoder_samples import EncoderFields
from service.wire.panda import PandaDecoder
from service.wire.pixels import ENCODINGS, decode_pixels, encode_pixels
from service.wire.position_senders import POSITION_SENDERS, PositionsSending
from service.wire.senders import SENDERS, Sending

HOSTILE = runpy.run_path(str(Path(__file__).parent / "hostile.py"))
bounded, decoded, damaged_bytes = HOSTILE["bounded"], HOSTILE["decoded"], HOSTILE["damaged_bytes"]
hostile_messages = HOSTILE["hostile_messages"]

MOST_BYTES = 1 << 22  # the messages have some kilobytes
SHAPE = (12, 16)
COUNTS = np.random.default_rng(1).poisson(5, (1, *SHAPE)).astype("<u2")
POSITIONS_M = np.random.default_rng(2).normal(scale=1e-6, size=(5, 2))
START = ScanStart(
    "star", SHAPE, COUNTS.dtype, frames=5, wavelength_m=1e-10, mask=np.eye(*SHAPE, dtype=bool),
    positions_m=POSITIONS_M,
)  # fmt: skip
FIELDS = EncoderFields("INENC1.VAL", "INENC2.VAL", 1e-6, 1e-6, samples=2)


def messages_of(format_):
    sent = []
    for encoding in ("raw", "lz4", "bslz4"):
        sender = SENDERS[format_](Sending(START, encoding, 16, datetime(2026, 1, 1, tzinfo=UTC), 1e-3))
        sent += [sender.start(), sender.frames(0, COUNTS, None), sender.end()]
    return sent


def positions_of(format_):
    sender = POSITION_SENDERS[format_](PositionsSending("star", 5, 2))
    return [*sender.start(), sender.positions(0, POSITIONS_M), sender.end()]


IMAGES = {format_: messages_of(format_) for format_ in SENDERS}
IMAGES["native"] += [
    native.encode_frames("star", 0, COUNTS.repeat(3, axis=0), "bslz4", POSITIONS_M[:3]),
    native.encode_positions(Positions("star", 0, POSITIONS_M)),
]
IMAGES["auto"] = [parts for format_ in SENDERS for parts in IMAGES[format_]]
POSITIONS = {format_: positions_of(format_) for format_ in ("native", "nsls2-json")}
POSITIONS["auto"] = POSITIONS["native"] + POSITIONS["nsls2-json"]
PANDA = b"OK\n" + b"".join(part for parts in positions_of("panda") for part in parts)
DECODERS = {
    **{format_: (lambda format_=format_: decoder_for(format_), sent) for format_, sent in IMAGES.items()},
    **{
        f"positions in {format_}": (lambda format_=format_: positions_decoder(format_, FIELDS), sent)
        for format_, sent in POSITIONS.items()
    },
}


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_messages_give_events_or_a_stream_error(name, data):
    make, valid = DECODERS[name]
    decoder = make()
    if data.draw(st.booleans()):
        decoder.decode(valid[0], 0)
    messages = data.draw(hostile_messages(valid))
    with bounded(MOST_BYTES):
        for parts in messages:
            decoded(decoder.decode, parts, 0)


@pytest.mark.parametrize("format_", IMAGES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_after_damaged_messages_the_next_series_decodes_as_ever(format_, data):
    decoder, valid = decoder_for(format_), IMAGES[format_]
    decoder.decode(valid[0], 0)
    for parts in data.draw(hostile_messages(valid)):
        decoded(decoder.decode, parts, 0)
    events = [event for parts in valid[:2] for event in decoder.decode(parts, 0)]
    assert isinstance(events[-1], Image)
    assert np.array_equal(events[-1].counts, COUNTS[0])


@settings(max_examples=200, deadline=None)
@given(stream=damaged_bytes(PANDA) | st.binary(max_size=300), cuts=st.lists(st.integers(0, 900), max_size=4))
def test_a_damaged_stream_of_a_panda_gives_events_or_a_stream_error(stream, cuts):
    decoder = PandaDecoder(FIELDS)
    decoder.hello()
    borders = [0, *sorted(cuts), len(stream)]
    with bounded(MOST_BYTES):
        for begin, end in pairwise(borders):
            if isinstance(decoded(decoder.feed, stream[begin:end]), str):
                break  # then we hang up
        decoder.lost()


@pytest.mark.parametrize("unpacked_by", ["NumPy", "dectris-compression"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), encoding=st.sampled_from(ENCODINGS), dtype=st.sampled_from(["<u1", "<u2", ">u4"]))
def test_damaged_pixels_have_the_right_size_or_are_refused(unpacked_by, data, encoding, dtype):
    whole = encode_pixels(COUNTS.astype(dtype), encoding)
    headed = st.binary(max_size=100).map(lambda blob: whole[:12] + blob)
    blob = data.draw(damaged_bytes(whole) | headed | st.binary(max_size=100))

    def unpacked():
        frames = decode_pixels(blob, SHAPE, np.dtype(dtype), encoding)
        assert frames.shape == (1, *SHAPE)
        return []

    with pytest.MonkeyPatch.context() as patch, bounded(MOST_BYTES):
        if unpacked_by == "NumPy":
            patch.setattr(pixels, "compiled_decompress", lambda: None)
        decoded(unpacked)
