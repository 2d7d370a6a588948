"""The format of a stream is told by how its messages open."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import numpy as np
import pytest

from service.errors import MessageError
from service.messages import Image, ScanStart
from service.sources import decoder_for
from service.wire.detecting import stream_format
from service.wire.fields import made_legal
from service.wire.senders import SENDERS, Sending

DATA = Path(__file__).parents[2] / "data"
COUNTS = np.random.default_rng(1).poisson(5, (1, 12, 16)).astype("<u2")
START = ScanStart("star", (12, 16), COUNTS.dtype, frames=1)
SENDING = Sending(START, "bslz4", 16, datetime(2026, 1, 1, tzinfo=UTC), 1e-3)


def messages_of(format_):
    sender = SENDERS[format_](SENDING)
    return [sender.start(), sender.frames(0, COUNTS, None), sender.end()]


@pytest.mark.parametrize("format_", SENDERS)
@pytest.mark.parametrize("which", range(3), ids=["start", "image", "end"])
def test_every_message_tells_its_format(format_, which):
    assert stream_format(messages_of(format_)[which]) == format_


@pytest.mark.parametrize(
    ("recording", "format_"),
    [("stream1_eiger1M_maxiv.cbor.gz", "dectris-v1"), ("stream2_eiger1M_maxiv.cbor.gz", "dectris-v2")],
)
def test_recorded_streams_are_recognised(recording, format_):
    messages = cbor2.loads(gzip.decompress((DATA / recording).read_bytes()))
    assert {stream_format(parts) for parts in messages} == {format_}
    decoder = decoder_for("auto")
    kinds = {type(event) for parts in messages for event in decoder.decode(parts, 0)}
    assert kinds >= {ScanStart, Image}


@pytest.mark.parametrize("format_", SENDERS)
def test_a_scan_decodes_as_if_its_format_had_been_told(format_):
    told, auto = (
        [event for parts in messages_of(format_) for event in decoder.decode(parts, 0)]
        for decoder in (decoder_for(format_), decoder_for("auto"))
    )
    assert [type(event) for event in auto] == [type(event) for event in told]
    assert np.array_equal(auto[1].counts, COUNTS[0])


def test_a_flattened_stream_is_recognised_by_its_first_part():
    decoder = decoder_for("auto")
    events = [
        event for parts in messages_of("dectris-v1") for part in parts for event in decoder.decode([part], 0)
    ]
    assert [type(event) for event in events][:2] == [ScanStart, Image]


@pytest.mark.parametrize(
    "parts", [[], [b""], [b"\xff"], [b"{}"], [b"{" * 100_000], [b'{"htype":"morse-1.0"}'], [b'{"htype":7}']]
)
def test_what_opens_in_no_known_way_is_refused_and_settles_nothing(parts):
    decoder = decoder_for("auto")
    with pytest.raises(MessageError, match="no known format"):
        decoder.decode(parts, 0)
    assert decoder.decode(messages_of("dectris-v2")[0], 0)


def test_garbage_that_opens_like_a_format_settles_nothing():
    decoder = decoder_for("auto")
    with pytest.raises(MessageError):
        decoder.decode([b"\x81garbage"], 0)
    assert decoder.decode(messages_of("dectris-v1")[0], 0)


def test_once_settled_another_format_is_refused():
    decoder = decoder_for("auto")
    decoder.decode(messages_of("native")[0], 0)
    with pytest.raises(MessageError, match="not a native message"):
        decoder.decode(messages_of("dectris-v2")[0], 0)


@pytest.mark.parametrize(("text", "name"), [("a b/ü", "a_b_"), ("", "scan"), ("x" * 300, "x" * 128)])
def test_any_text_makes_a_legal_scan_name(text, name):
    assert made_legal(text) == name
