"""A PandA's data port over real loopback TCP: our side of it, and the one that `replay` plays."""

import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from service.errors import ConfigError, MessageError, StalledError
from service.messages import Notice, Positions, PositionsArmed
from service.tcp_outlet import TcpOutlet
from service.tcp_source import TcpSource, tcp_address
from service.wire.encoder_samples import EncoderFields
from service.wire.panda import REQUEST, PandaDecoder
from service.wire.position_senders import POSITION_SENDERS, PositionsSending

POSITIONS_M = np.random.default_rng(4).normal(scale=1e-6, size=(20, 2))
PATIENCE_S = 10.0


def sent():
    sender = POSITION_SENDERS["panda"](PositionsSending("s", 20, 2))
    packets = [sender.positions(n, POSITIONS_M[n : n + 5]) for n in range(0, 20, 5)]
    return [*sender.start(), *packets, sender.end()]


def source(endpoint):
    return TcpSource(endpoint, PandaDecoder(EncoderFields("INENC1.VAL", "INENC2.VAL", samples=2)))


def heard(source, enough, patience_s=PATIENCE_S):
    """Return what is received until there is enough of it."""
    received, until_s = [], time.monotonic() + patience_s
    while not enough(received):
        assert time.monotonic() < until_s, received
        one = source.receive(0.05)
        received += [] if one is None else [one]
    return received


def events(received):
    return [event for one in received for event in one.events]


def frames(received):
    return sorted(
        told.first + i
        for told in events(received)
        if isinstance(told, Positions)
        for i in range(len(told.positions_m))
    )


def notices(received):
    return {event.about: event.line for event in events(received) if isinstance(event, Notice)}


def reached(what):
    return lambda received: what in [event.about for event in events(received) if isinstance(event, Notice)]


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def panda():
    """Return a listening socket, for a PandA that is played by hand."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        yield listener


def endpoint_of(listener):
    return f"panda://127.0.0.1:{listener.getsockname()[1]}"


def connected(listener, source):
    """Return the connection that a source makes."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        assert source.receive(0.05) is None
        with suppress(TimeoutError):
            client, _ = listener.accept()
            client.settimeout(PATIENCE_S)
            assert client.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
            return client
    raise AssertionError("no connection")


@pytest.mark.parametrize("first", ["service", "panda"])
def test_positions_come_whoever_is_up_first(port, first):
    endpoint = f"panda://127.0.0.1:{port}"
    up = {"service": threading.Event(), "panda": threading.Event()}

    def play():
        if first == "service":
            up["service"].wait(PATIENCE_S)
        with outlet(endpoint, stall_s=PATIENCE_S) as panda:
            up["panda"].set()
            assert all(panda.send(message) for message in sent())

    player = threading.Thread(target=play)
    player.start()
    if first == "panda":
        up["panda"].wait(PATIENCE_S)
    with source(endpoint) as ours:
        received = [] if first == "panda" else heard(ours, len)
        up["service"].set()
        received += heard(ours, lambda so_far: len(frames(so_far)) == 20)
    player.join(PATIENCE_S)
    assert frames(received) == list(range(20))
    assert ("positions_source" in notices(received)) == (first == "service")


def test_that_nobody_answers_is_said_once_and_tried_again(port):
    with source(f"panda://127.0.0.1:{port}") as ours:
        (said,) = heard(ours, len)
        assert "nobody answers" in notices([said])["positions_source"]
        assert said.nbytes == 0
        assert all(ours.receive(0.3) is None for _ in range(5))


def test_a_connection_that_breaks_in_mid_capture_is_told_and_taken_up_again(panda):
    header, *packets, _ = sent()
    with source(endpoint_of(panda)) as ours:
        with connected(panda, ours) as client:
            client.sendall(b"OK\n" + header[0] + b"".join(packets[0]))
            before = heard(ours, lambda so_far: len(frames(so_far)) == 5)
        broken = heard(ours, reached("panda_connection"))
        assert "after sample 10" in notices(broken)["panda_connection"]
        assert ours.lost_peers() == 1
        with connected(panda, ours) as client:
            client.sendall(b"OK\n" + header[0].replace(b'missed="0"', b'missed="20"') + b"".join(packets[2]))
            again = heard(ours, lambda so_far: len(frames(so_far)) == 5)
    assert frames(before) == [0, 1, 2, 3, 4]
    assert frames(again) == [10, 11, 12, 13, 14]
    assert not any(isinstance(event, PositionsArmed) for event in events(again))


def test_a_peer_that_is_no_panda_is_refused_and_asked_again(panda):
    with source(endpoint_of(panda)) as ours:
        with connected(panda, ours) as client:
            client.sendall(b"HTTP/1.1 400 Bad Request\n")
            (refused,) = heard(ours, len)
        assert isinstance(refused.error, MessageError)
        assert "not the data port" in str(refused.error)
        with connected(panda, ours) as client:
            client.sendall(b"OK\n" + b"".join(part for message in sent() for part in message))
            assert frames(heard(ours, lambda so_far: len(frames(so_far)) == 20)) == list(range(20))


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("panda://10.0.0.7:8889", ("10.0.0.7", 8889)),
        ("panda://panda.beamline", ("panda.beamline", 8889)),
        ("tcp://panda:9000", ("panda", 9000)),
        ("panda://[::1]:8889", ("::1", 8889)),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(endpoint, address):
    assert tcp_address(endpoint) == address


@pytest.mark.parametrize(
    "endpoint", ["panda://", "panda://host:99999", "panda://host:x", "http://host:80", "ipc://a"]
)
def test_an_endpoint_that_cannot_be_is_refused(endpoint):
    with pytest.raises(ConfigError, match="panda://host:port"):
        tcp_address(endpoint)


def outlet(endpoint, stop=None, stall_s=0.2):
    return TcpOutlet(endpoint, allow_remote=False, stop=stop or threading.Event(), stall_s=stall_s)


def test_a_panda_without_a_client_stalls(port):
    with (
        outlet(f"panda://127.0.0.1:{port}") as nobody,
        pytest.raises(StalledError, match="nobody took positions"),
    ):
        nobody.send([b"x"])


def test_a_panda_that_is_told_to_stop_stops_waiting(port):
    stop = threading.Event()
    stop.set()
    with outlet(f"panda://127.0.0.1:{port}", stop, stall_s=60) as stopped:
        assert not stopped.send([b"x"])


def test_a_client_that_asks_otherwise_is_told_so_and_the_next_is_served(port):
    with outlet(f"panda://127.0.0.1:{port}", stall_s=PATIENCE_S) as serving:
        wrong = socket.create_connection(("127.0.0.1", port))
        right = socket.create_connection(("127.0.0.1", port))
        with wrong, right:
            wrong.sendall(b"ASCII\n")
            right.sendall(REQUEST)
            assert serving.send([b"sa", b"mples"])
            assert wrong.recv(100).startswith(b"ERR")
            assert right.recv(len(b"OK\nsamples"), socket.MSG_WAITALL) == b"OK\nsamples"


def test_a_panda_off_loopback_needs_leave(port):
    with pytest.raises(ConfigError, match="let other machines in"):
        outlet(f"panda://0.0.0.0:{port}")


def test_a_port_that_is_taken_is_told(panda):
    with pytest.raises(ConfigError, match="cannot listen"):
        outlet(endpoint_of(panda))
