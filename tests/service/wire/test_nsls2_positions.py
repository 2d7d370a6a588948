"""Positions in JSON, as the PandA's IOC publishes them at NSLS-II."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.messages import Notice, Positions, PositionsArmed
from service.wire.encoder_samples import EncoderFields
from service.wire.nsls2_positions import Nsls2PositionsDecoder, speaks_nsls2
from service.wire.pixels import Limits
from service.wire.position_senders import POSITION_SENDERS, PositionsSending

FRAMES, A_FRAME = 20, 3
POSITIONS_M = np.random.default_rng(3).normal(scale=1e-6, size=(FRAMES, 2))
NUMBERED = EncoderFields("INENC1.VAL", "INENC2.VAL", 1e-6, 1e-6, samples=A_FRAME)
COUNTED = EncoderFields("INENC1.VAL", "INENC2.VAL", 1e-6, 1e-6, frame="COUNTER1.OUT", first_frame=1)
# As a receiver at the Hard X-ray Nanoprobe notes them, shortened.
PUBLISHED = [
    {"msg_type": "start", "arm_time": "2025-02-28T18:44:22.905865051Z",
     "start_time": "2025-02-28T18:44:22.905908989Z", "hw_time_offset_ns": None},
    {"msg_type": "data", "frame_number": 0, "datasets": {
        "/COUNTER1.OUT.Value": {"dtype": "float64", "size": 2, "starting_sample_number": 0,
                                "data": [1.0, 2.0]},
        "/FMC_IN.VAL1.Value": {"dtype": "float64", "size": 2, "starting_sample_number": 0,
                               "data": [-0.008316, -0.007935]},
        "/PCAP.TS_TRIG.Value": {"dtype": "float64", "size": 2, "starting_sample_number": 0,
                                "data": [2.4e-08, 0.010000024]}}},
    {"msg_type": "stop", "emitted_frames": 1},
]  # fmt: skip


def sent(frames_a_packet=4):
    sender = POSITION_SENDERS["nsls2-json"](PositionsSending("s", FRAMES, A_FRAME))
    starts = range(0, FRAMES, frames_a_packet)
    packets = [sender.positions(n, POSITIONS_M[n : n + frames_a_packet]) for n in starts]
    return [*sender.start(), *packets, sender.end()]


def decoded(messages, fields=NUMBERED):
    decoder = Nsls2PositionsDecoder(fields)
    return [event for parts in messages for event in decoder.decode(parts, 0)]


def place(events):
    rows = [(told.first + i, row) for told in events if isinstance(told, Positions)
            for i, row in enumerate(told.positions_m)]  # fmt: skip
    return dict(reversed(rows))  # the first copy is the one that counts


def notices(events):
    return {event.about: event.line for event in events if isinstance(event, Notice)}


def data(**changed):
    told = {"dtype": "float64", "size": 3, "starting_sample_number": 0, "data": [1.0, 2.0, 3.0]} | changed
    whole = {"dtype": "float64", "size": 3, "starting_sample_number": 0, "data": [1.0, 2.0, 3.0]}
    datasets = {"/INENC1.VAL.Value": whole, "/INENC2.VAL.Value": told}
    return [json.dumps({"msg_type": "data", "frame_number": 0, "datasets": datasets}).encode()]


def test_a_published_capture_gives_a_position_a_frame():
    fields = EncoderFields("PCAP.TS_TRIG", "FMC_IN.VAL1", 1.0, 1e-3, frame="COUNTER1.OUT", first_frame=1)
    events = decoded([[json.dumps(message).encode()] for message in PUBLISHED], fields)
    assert isinstance(events[0], PositionsArmed)
    found = place(events)
    assert sorted(found) == [0, 1]
    assert found[1] == pytest.approx([0.010000024, -0.007935e-3])
    assert notices(events) == {}


@pytest.mark.parametrize("fields", [NUMBERED, COUNTED], ids=["numbered", "counted by a field"])
def test_the_samples_of_a_frame_are_averaged(fields):
    found = place(decoded(sent(), fields))
    assert sorted(found) == list(range(FRAMES))
    assert np.allclose([found[n] for n in range(FRAMES)], POSITIONS_M, rtol=0, atol=1e-15)


def test_a_lost_packet_shifts_nothing_and_is_told_at_the_end():
    messages = sent()
    events = decoded(messages[:2] + messages[3:])
    found = place(events)
    assert sorted(set(range(FRAMES)) - set(found)) == [4, 5, 6, 7]
    assert np.allclose(
        [found[n] for n in sorted(found)], np.delete(POSITIONS_M, range(4, 8), axis=0), atol=1e-15
    )
    assert "1 of 5 position packets" in notices(events)["position_packets"]


def test_packets_twice_and_in_another_order_give_the_same_positions_and_no_notice():
    start, *packets, stop = sent()
    events = decoded([start, packets[1], packets[0], *packets[2:], packets[2], stop])
    found = place(events)
    assert np.allclose([found[n] for n in range(FRAMES)], POSITIONS_M, rtol=0, atol=1e-15)
    assert notices(events) == {}


def test_a_capture_whose_start_was_not_heard_begins_where_it_says():
    events = decoded(sent()[3:])
    assert isinstance(events[0], PositionsArmed)
    assert sorted(place(events)) == list(range(8, FRAMES))
    assert "begin at sample 24" in notices(events)["positions_missed"]


def test_each_start_and_each_capture_without_one_arms_the_source_once():
    whole = sent()
    events = decoded([*whole, whole[0], whole[0], *whole[1:], *whole[1:]])
    assert sum(isinstance(event, PositionsArmed) for event in events) == 3


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (data(size=4), "holds 3 samples, not the 4"),
        (data(size=1 << 60), "JSON"),
        (data(size=2, data=[1.0, 2.0]), "not hold the same samples"),
        (data(starting_sample_number=3), "not hold the same samples"),
        (data(starting_sample_number=-1), "JSON"),
        (data(data=["1", "2", "3"]), "JSON"),
        (data(data=[[1.0], 2.0, 3.0]), "JSON"),
        ([b'{"msg_type": "data", "frame_number": 0, "datasets": {}}'], "INENC1"),
        ([b'{"msg_type": "other"}'], "JSON"),
        ([b"[" * 100_000], "JSON"),
        ([b"{}", b"{}"], "one part"),
        ([b" " * 5000], "in the place of JSON"),
    ],
)
def test_what_does_not_follow_the_format_is_refused(parts, why):
    decoder = Nsls2PositionsDecoder(
        NUMBERED, Limits(max_configuration_bytes=200_000 if why != "in the place of JSON" else 4096)
    )
    with pytest.raises(MessageError, match=why) as refused:
        decoder.decode(parts, 0)
    assert len(str(refused.value)) < 400


def test_a_capture_goes_on_after_a_message_that_was_refused():
    start, *rest = sent()
    decoder = Nsls2PositionsDecoder(NUMBERED)
    decoder.decode(start, 0)
    with pytest.raises(MessageError):
        decoder.decode([b"{"], 0)
    assert sorted(place([event for parts in rest for event in decoder.decode(parts, 0)])) == list(
        range(FRAMES)
    )


def test_positions_in_json_need_a_unit():
    with pytest.raises(MessageError, match="set positions_y_unit_m"):
        decoded(sent(), EncoderFields("INENC1.VAL", "INENC2.VAL"))


@settings(max_examples=50)
@given(st.integers(0, 5), st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_messages_raise_nothing_but_message_errors(which, where, byte):
    messages = sent()
    damaged = bytearray(messages[which % len(messages)][0])
    damaged[where % len(damaged)] = byte
    decoder = Nsls2PositionsDecoder(COUNTED)
    for parts in (messages[0], [bytes(damaged)], messages[2]):
        try:
            decoder.decode(parts, 0)
        except MessageError:
            assert parts == [bytes(damaged)]


def test_its_messages_are_told_from_those_of_detectors():
    assert all(speaks_nsls2(parts) for parts in sent())
    for other in (
        [b'{"htype":"dheader-1.0"}'],
        [b'{"msg_type":"header"}'],
        [b"\x82"],
        [b""],
        [b"{"],
        [b"{}", b"{}"],
    ):
        assert not speaks_nsls2(other)
