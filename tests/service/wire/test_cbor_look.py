import runpy
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import ScanStart
from service.wire.cbor_look import CborLook
from service.wire.dectris_v2 import SentSeries, encode_image
from service.wire.pixels import DEFAULT_LIMITS, Limits

damaged_bytes = runpy.run_path(str(Path(__file__).parent / "hostile.py"))["damaged_bytes"]

SERIES = SentSeries(ScanStart("star", (8, 8), np.dtype("<u2"), frames=1000), series_id=3)


def image(index, encoding="bslz4"):
    counts = np.random.default_rng(index).poisson(3, (8, 8)).astype("<u2")
    (part,) = encode_image(SERIES, index, counts, encoding)
    return part


def verdict(look, part):
    try:
        look.through(part)
    except MessageError as error:
        return str(error)
    return None


def look_that_knows(parts):
    look = CborLook(DEFAULT_LIMITS)
    for part in parts:
        look.through(part)
    return look


@given(st.sampled_from([0, 7, 300, 70_000]).map(image).flatmap(damaged_bytes))
def test_a_look_that_knows_the_series_judges_as_one_that_sees_it_first(part):
    knowing = look_that_knows([image(0), image(7), image(300), image(0, "raw")])
    assert verdict(knowing, part) == verdict(CborLook(DEFAULT_LIMITS), part)


@pytest.mark.parametrize("tag", [28, 35, 258])
def test_a_tag_that_no_detector_sends_is_refused_where_a_known_series_has_a_harmless_one(tag):
    known, hostile = (cbor2.dumps({"type": "image", "date": cbor2.CBORTag(t, ["x"])}) for t in (40, tag))
    assert "tag" in verdict(look_that_knows([known] * 2), hostile)


def test_a_byte_string_that_claims_more_than_there_is_does_not_stop_the_look():
    known = cbor2.dumps({"data": bytes(300)})
    for claimed in (b"\x5b" + b"\xff" * 8, b"\x59\xff\xff"):
        longer = known.replace(b"\x59" + (300).to_bytes(2, "big"), claimed)
        assert verdict(look_that_knows([known]), longer) is None


def test_items_are_counted_in_messages_of_a_known_layout_too():
    few = Limits(max_items=20)
    look = CborLook(few)
    look.through(cbor2.dumps([1] * 10))
    with pytest.raises(MessageError, match="more than 20 items"):
        look.through(cbor2.dumps([1] * 30))
    with pytest.raises(MessageError, match="nested more than"):
        CborLook(Limits(max_depth=3)).through(cbor2.dumps([[[[1]]]]))
