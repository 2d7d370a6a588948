"""The data port of a PandA, byte by byte."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Notice, Positions, PositionsArmed
from service.wire.encoder_samples import EncoderFields
from service.wire.panda import REQUEST, PandaDecoder
from service.wire.position_senders import POSITION_SENDERS, PositionsSending

Y_AND_X = EncoderFields(y="INENC1.VAL", x="INENC2.VAL")
FIELDS = (("INENC1.VAL", "double", "Mean", "mm"), ("PCAP.BITS0", "uint32", "Value", None),
          ("INENC2.VAL", "double", "Mean", "um"))  # fmt: skip
RECORD = struct.Struct("<dId")
PLACES = [(1.5, -2.5), (3.0, 4.0), (-5.0, 6.25)]  # y in mm, x in micrometres
EXPECTED_M = [(y * 1e-3, x * 1e-6) for y, x in PLACES]


def header(fields=FIELDS, sample_bytes=RECORD.size, missed=0, process="Scaled", before="", arm_time=""):
    lines = []
    for name, kind, capture, units in fields:
        scaled = "" if units is None else f' scale="1" offset="0" units="{units}"'
        lines.append(f'<field name="{name}" type="{kind}" capture="{capture}"{scaled} />')
    armed = f' arm_time="{arm_time}"' if arm_time else ""
    data = (
        f'<data missed="{missed}" process="{process}" format="Framed" sample_bytes="{sample_bytes}"{armed} />'
    )
    body = "\n".join([data, "<fields>", *lines, "</fields>"])
    return f"{before}<header>\n{body}\n</header>\n\n".encode()


def block(places, length=None):
    records = b"".join(RECORD.pack(y, 7, x) for y, x in places)
    return b"BIN " + struct.pack("<I", 8 + len(records) if length is None else length) + records


def end(samples, reason="Ok"):
    return f"END {samples} {reason}\n".encode()


def connected(fields=Y_AND_X):
    decoder = PandaDecoder(fields)
    assert decoder.hello() == REQUEST
    assert decoder.feed(b"OK\n") == []
    return decoder


def fed(*pieces, fields=Y_AND_X):
    return connected(fields).feed(b"".join(pieces))


def place(events):
    rows = [(told.first + i, tuple(row)) for told in events if isinstance(told, Positions)
            for i, row in enumerate(told.positions_m)]  # fmt: skip
    return dict(rows)


def notices(events):
    return {event.about: event.line for event in events if isinstance(event, Notice)}


def test_the_positions_of_a_capture_are_metres_by_frame_number():
    events = fed(header(), block(PLACES[:2]), block(PLACES[2:]), end(3))
    assert isinstance(events[0], PositionsArmed)
    assert place(events) == {n: pytest.approx(m) for n, m in enumerate(EXPECTED_M)}
    assert notices(events) == {}


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 900), unique=True, max_size=40).map(sorted))
def test_it_does_not_matter_where_tcp_cuts_the_stream(cuts):
    stream = header() + block(PLACES[:2]) + block(PLACES[2:]) + end(3) + header() + block(PLACES) + end(3)
    decoder = connected()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    events = [event for piece in pieces for event in decoder.feed(piece)]
    assert [type(event) for event in events].count(PositionsArmed) == 2
    assert sum(len(told.positions_m) for told in events if isinstance(told, Positions)) == 6


def test_records_that_go_on_in_the_next_block_are_put_together():
    records = b"".join(RECORD.pack(y, 0, x) for y, x in PLACES)
    blocks = [b"BIN " + struct.pack("<I", 8 + len(part)) + part for part in (records[:33], records[33:])]
    assert place(fed(header(), *blocks, end(3))) == {n: pytest.approx(m) for n, m in enumerate(EXPECTED_M)}


def test_a_unit_that_is_set_goes_before_the_one_that_is_told():
    fields = EncoderFields(y="INENC1.VAL.Mean", x="INENC2.VAL", y_unit_m=-1e-9, x_unit_m=2.0)
    assert place(fed(header(), block(PLACES), end(3), fields=fields))[0] == pytest.approx((-1.5e-9, -5.0))


def test_a_unit_that_is_no_length_asks_for_the_setting():
    told = notices(
        fed(header([("INENC1.VAL", "double", "Value", ""), ("INENC2.VAL", "double", "Value", "um")], 16))
    )
    assert "set positions_y_unit_m" in told["panda_fields"]


def test_a_field_that_is_not_captured_costs_the_positions_and_names_those_that_are():
    events = fed(header(), block(PLACES), end(3), fields=EncoderFields(y="INENC1.VAL", x="INENC7.VAL"))
    assert place(events) == {}
    assert "INENC7.VAL is not captured" in notices(events)["panda_fields"]
    assert "INENC2.VAL.Mean" in notices(events)["panda_fields"]


@pytest.mark.parametrize("samples", [1, 4])
def test_several_samples_a_frame_are_averaged_by_number_or_by_the_counter(samples):
    positions_m = np.random.default_rng(2).normal(scale=1e-6, size=(30, 2))
    sender = POSITION_SENDERS["panda"](PositionsSending("s", 30, samples))
    sent = [
        *sender.start(),
        *(sender.positions(n, positions_m[n : n + 8]) for n in range(0, 30, 8)),
        sender.end(),
    ]
    stream = b"".join(part for message in sent for part in message)
    numbered = EncoderFields(y="INENC1.VAL", x="INENC2.VAL", samples=samples)
    counted = EncoderFields(y="INENC1.VAL", x="INENC2.VAL", frame="COUNTER1.OUT", first_frame=1)
    for fields in (numbered, counted):
        found = place(fed(stream, fields=fields))
        assert sorted(found) == list(range(30))
        assert np.allclose([found[n] for n in range(30)], positions_m, rtol=0, atol=1e-15)


def test_samples_that_were_missed_before_we_came_shift_no_frame():
    events = fed(
        header(missed=20), block(PLACES), end(3), fields=EncoderFields("INENC1.VAL", "INENC2.VAL", samples=2)
    )
    assert sorted(place(events)) == [10, 11]
    assert "begin at sample 20, of frame 10" in notices(events)["panda_missed"]


def test_a_capture_that_was_cut_off_goes_on_where_it_is_and_is_not_a_new_one():
    decoder = connected()
    decoder.feed(header(arm_time="T1") + block(PLACES))
    gone = decoder.lost()
    assert "broke in mid-capture, after sample 3" in notices(gone)["panda_connection"]
    decoder.hello()
    again = decoder.feed(b"OK\n" + header(missed=9, arm_time="T1") + block(PLACES) + end(12))
    assert not any(isinstance(event, PositionsArmed) for event in again)
    assert sorted(place(again)) == [9, 10, 11]
    assert "go on from sample 9" in notices(again)["panda_missed"]
    assert "panda_samples" not in notices(again)


def test_another_capture_after_a_lost_connection_is_a_new_one():
    decoder = connected()
    decoder.feed(header(arm_time="T1") + block(PLACES))
    decoder.lost()
    decoder.hello()
    again = decoder.feed(b"OK\n" + header(missed=9, arm_time="T2"))
    assert isinstance(again[0], PositionsArmed)


def test_a_connection_that_is_lost_between_captures_says_nothing():
    decoder = connected()
    decoder.feed(header() + block(PLACES) + end(3))
    assert decoder.lost() == []


@pytest.mark.parametrize("reason", ["Data overrun", "Framing error", "Disarmed", "DMA data error", "Else"])
def test_an_end_that_is_not_ok_is_told_to_the_operator(reason):
    told = notices(fed(header(), block(PLACES), end(3, reason)))
    assert repr(reason) in told["panda_end"]
    assert "3 samples" in told["panda_end"]


def test_an_end_that_counts_other_samples_than_came_is_told():
    assert "sent 5 samples, and 3 came" in notices(fed(header(), block(PLACES), end(5)))["panda_samples"]


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"ERR something\n", "not the data port"),
        (b"x" * 5000, "line without an end"),
        (b"OK\n" + b"x" * (1 << 18), "header has no end"),
        (b"OK\n<header>\n<data\n</header>\n", "not XML"),
        (b"OK\n" + header(before='<!DOCTYPE a [<!ENTITY b "c">]>'), None),
        (b"OK\n<header>&lol;\n</header>\n", "not XML"),
        (b"OK\n" + header(process="Raw"), "scaled values"),
        (b"OK\n" + header(sample_bytes=1 << 40), "samples of 1099511627776 bytes"),
        (b"OK\n" + header(sample_bytes="1e9"), "no count"),
        (b"OK\n" + header(missed="-1"), "no count"),
        (b"OK\n" + header([("A", "string", "Value", "")], 8), "not understood"),
        (b"OK\n" + header([]), "captures 0 fields"),
        (b"OK\n" + header([FIELDS[0], FIELDS[0]], 16), "twice"),
        (b"OK\n" + header()[:-1] + b"BIN ", "no empty line"),
        (b"OK\n" + header() + block([], 7), "neither samples nor an end"),
        (b"OK\n" + header() + block([], 0xFFFFFFFF), "neither samples nor an end"),
        (b"OK\n" + header() + b"GARBAGE!", "neither samples nor an end"),
        (b"OK\n" + header() + b"END many Ok\n", "not understood"),
        (b"OK\n" + header() + b"END " + b"9" * 5000, "line without an end"),
    ],
)  # fmt: skip
def test_what_is_not_the_protocol_is_refused_before_memory_is_taken(stream, why):
    decoder = PandaDecoder(Y_AND_X)
    decoder.hello()
    if why is None:  # what stands before the header is not read at all
        assert isinstance(decoder.feed(stream)[0], PositionsArmed)
        return
    with pytest.raises(MessageError, match=why) as refused:
        decoder.feed(stream)
    assert len(str(refused.value)) < 300


def test_a_document_type_inside_the_header_grows_no_entities():
    bomb = '<header>\n<!DOCTYPE a [<!ENTITY b "c">]>\n<data/>&b;\n</header>\n'
    with pytest.raises(MessageError):
        fed(bomb.encode())


@settings(max_examples=50)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_damaged_streams_raise_nothing_but_message_errors(garbage, where, byte):
    stream = bytearray(b"OK\n" + header() + block(PLACES) + end(3))
    stream[where % len(stream)] = byte
    for damaged in (bytes(stream), b"OK\n" + garbage, b"OK\n" + header() + garbage):
        decoder = PandaDecoder(Y_AND_X)
        decoder.hello()
        try:
            decoder.feed(damaged)
        except MessageError:
            decoder.lost()


def test_bits_and_gates_that_are_captured_beside_the_encoders_are_ignored():
    """What PandABlocks sends of `PCAP.GATE`, `PCAP.BITSn` and gate durations, between the two that matter."""
    fields = (
        ("PCAP.GATE", "uint32", "Value", None), ("INENC1.VAL", "double", "Mean", "mm"),
        ("PCAP.BITS0", "uint32", "Value", None), ("PCAP.GATE_DURATION", "double", "Value", "s"),
        ("INENC2.VAL", "double", "Mean", "um"), ("PCAP.GATE", "uint8", "Last", None),
        ("SEQ1.ACTIVE", "bool", "Value", None),
    )  # fmt: skip
    record = struct.Struct("<IdIddB?")
    records = b"".join(
        record.pack(n % 2, y, 2**32 - 1, 1e-3, x, 1, n == 1) for n, (y, x) in enumerate(PLACES)
    )
    samples = b"BIN " + struct.pack("<I", 8 + len(records)) + records
    events = fed(header(fields, record.size), samples, end(3))
    assert place(events) == {n: pytest.approx(m) for n, m in enumerate(EXPECTED_M)}
    assert notices(events) == {}


def test_an_encoder_cannot_be_a_gate():
    fields = (("PCAP.GATE", "bool", "Value", None), ("INENC2.VAL", "double", "Mean", "um"))
    events = fed(header(fields, 9), fields=EncoderFields(y="PCAP.GATE", x="INENC2.VAL"))
    assert "is no length" in notices(events)["panda_fields"]
