"""Which source a position stream has, what `check` says of it, and what `replay` sends over it."""

import threading

import numpy as np
import pytest
import zmq

from service.check import check_all
from service.config import Settings
from service.errors import ConfigError, MessageError
from service.messages import Positions, PositionsArmed
from service.replay import POSITION_FORMATS, ReplayPlan, messages
from service.sources import Source
from service.streams import encoder_fields, open_source, positions_decoder, stream_format
from service.tcp_outlet import TcpOutlet
from service.tcp_source import TcpSource
from service.wire.panda import PandaDecoder

LOOPBACK = "tcp://127.0.0.1:*"
FIELDS = {"positions_y": "INENC1.VAL", "positions_x": "INENC2.VAL"}
MICROMETRES = {"positions_y_unit_m": 1e-6, "positions_x_unit_m": 1e-6}


@pytest.fixture
def port():
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        return socket.bind_to_random_port("tcp://127.0.0.1")


@pytest.fixture
def panda(port, tiny_file):
    """Return the endpoint of a PandA that sends its first positions to whoever comes."""
    endpoint, stop = f"panda://127.0.0.1:{port}", threading.Event()
    plan = ReplayPlan("tiny", positions="stream", positions_format="panda")
    sent = [message.parts for message in messages(tiny_file, plan) if message.lane == "positions"]

    def play(outlet):
        for parts in sent[:2]:
            outlet.send(parts)
        stop.wait(10)

    with TcpOutlet(endpoint, allow_remote=False, stop=stop, stall_s=10) as outlet:
        player = threading.Thread(target=play, args=(outlet,))
        player.start()
        yield endpoint
        stop.set()
        player.join(10)


@pytest.fixture
def positions_found(tiny_bundle):
    """Return what checks a position stream and gives verdict and detail."""

    def check(timeout_s=0.3, **settings):
        told = Settings(bundle=str(tiny_bundle), threads=1, images=LOOPBACK, images_bind=True, **settings)
        (found,) = (one for one in check_all(told, timeout_s) if one.what == "positions")
        return found.verdict, found.detail

    return check


@pytest.mark.parametrize(
    ("settings", "spoken", "kind"),
    [
        ({"positions": "panda://127.0.0.1:1"}, "panda", TcpSource),
        ({"positions": "tcp://127.0.0.1:1", "positions_format": "panda"}, "panda", TcpSource),
        ({"positions": LOOPBACK, "positions_bind": True}, "auto", Source),
        (
            {"positions": LOOPBACK, "positions_bind": True, "positions_format": "nsls2-json"},
            "nsls2-json",
            Source,
        ),
    ],
)
def test_the_endpoint_or_the_format_says_what_a_position_stream_speaks(settings, spoken, kind):
    told = Settings(**settings, **FIELDS, **MICROMETRES)
    assert stream_format(told, "positions") == spoken
    with open_source(told, "positions") as source:
        assert isinstance(source, kind)


@pytest.mark.parametrize(
    ("missing", "settings"),
    [
        ("positions_y and positions_x", {"positions": "panda://127.0.0.1:1"}),
        ("positions_y and positions_x", {"positions": LOOPBACK, "positions_format": "nsls2-json"}),
        ("positions_y_unit_m", {"positions": LOOPBACK, "positions_format": "nsls2-json", **FIELDS}),
    ],
)
def test_what_positions_are_must_be_told_before_the_service_starts(missing, settings):
    with pytest.raises(ConfigError, match=missing):
        open_source(Settings(**settings), "positions")


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("format_", POSITION_FORMATS)
def test_a_replay_sends_the_positions_of_the_file_in_every_format(tiny_file, format_, samples):
    plan = ReplayPlan("tiny", positions="stream", positions_format=format_, samples=samples)
    sent = [message.parts for message in messages(tiny_file, plan) if message.lane == "positions"]
    fields = encoder_fields(Settings(**FIELDS, **MICROMETRES, positions_samples=samples))
    if format_ == "panda":
        events = PandaDecoder(fields)
        events.hello()
        told = events.feed(b"OK\n" + b"".join(part for parts in sent for part in parts))
    else:
        decoder = positions_decoder("auto", fields)
        told = [event for parts in sent for event in decoder.decode(parts, 0)]
    rows = np.concatenate([event.positions_m for event in told if isinstance(event, Positions)])
    assert np.allclose(rows, tiny_file.positions_m, rtol=0, atol=1e-15)


def test_a_detectors_message_at_the_port_of_the_positions_settles_nothing(tiny_file):
    decoder = positions_decoder("auto", encoder_fields(Settings(**FIELDS, **MICROMETRES)))
    for format_ in ("dectris-v1", "dectris-v2", "array-1.0"):
        (stray, *_) = messages(tiny_file, ReplayPlan("tiny", format=format_))
        with pytest.raises(MessageError, match="no known format"):
            decoder.decode(stray.parts, 0)
    plan = ReplayPlan("tiny", positions="stream", positions_format="nsls2-json")
    sent = [message.parts for message in messages(tiny_file, plan) if message.lane == "positions"]
    assert isinstance(decoder.decode(sent[0], 0)[0], PositionsArmed)


def test_check_says_that_nobody_answers_where_a_panda_should_be(positions_found, port):
    verdict, detail = positions_found(positions=f"panda://127.0.0.1:{port}", **FIELDS)
    assert verdict == "TIMEOUT"
    assert "nobody answers" in detail


def test_check_finds_a_panda_that_captures_ok(positions_found, panda):
    verdict, detail = positions_found(1.0, positions=panda, **FIELDS)
    assert verdict == "OK"
    assert "panda from panda://" in detail
    assert "PositionsArmed" in detail


def test_check_finds_fields_that_are_not_captured_and_lists_those_that_are(positions_found, panda):
    verdict, detail = positions_found(
        1.0, positions=panda, positions_y="INENC1.VAL", positions_x="INENC5.VAL"
    )
    assert verdict == "ERROR"
    assert "INENC5.VAL is not captured; the fields are COUNTER1.OUT.Value, INENC1.VAL.Mean" in detail


@pytest.mark.parametrize(
    ("number", "settings", "verdict", "said"),
    [
        (0, {**FIELDS, **MICROMETRES}, "OK", "PositionsArmed"),
        (1, {**FIELDS, **MICROMETRES}, "OK", "Positions"),
        (1, {}, "ERROR", "positions_y is not told; the fields are /COUNTER1.OUT.Value"),
        (1, FIELDS, "ERROR", "set positions_y_unit_m"),
    ],
)
def test_check_finds_positions_in_json(positions_found, tiny_file, tmp_path, number, settings, verdict, said):
    endpoint = f"ipc://{tmp_path}/positions"
    plan = ReplayPlan("tiny", positions="stream", positions_format="nsls2-json")
    sent = [message.parts for message in messages(tiny_file, plan) if message.lane == "positions"]
    with zmq.Context() as context, context.socket(zmq.PUSH) as publisher:
        publisher.set(zmq.LINGER, 0)
        publisher.connect(endpoint)
        publisher.send_multipart(sent[number])
        found = positions_found(1.0, positions=endpoint, positions_bind=True, **settings)
    assert found[0] == verdict
    assert said in found[1]


def test_a_replay_needs_samples_and_a_format_that_can_be_sent():
    with pytest.raises(ConfigError, match="at least one sample"):
        ReplayPlan("s", samples=0)
    with pytest.raises(ConfigError, match="native, panda, nsls2-json, not 'other'"):
        ReplayPlan("s", positions_format="other")
