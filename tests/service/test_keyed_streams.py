"""Keys on real sockets: who gets in, and what is said where somebody does not."""

import re
import threading
from contextlib import ExitStack

import numpy as np
import pytest
import zmq
from waiting import until

from service.check import check_all
from service.config import Settings
from service.errors import ConfigError
from service.intake import open_intakes
from service.messages import ScanEnd, ScanStart
from service.outlets import Destination
from service.publish import TilePublisher
from service.record import record
from service.replay import ReplayPlan, run_replay
from service.security.curve import CurveClient, CurveServer, curve_context, secure
from service.security.keys import load_pair, load_public, make_keys
from service.sources import Source
from service.stream_keys import listening_curve
from service.wire import native
from service.wire.native import NativeDecoder
from service.wire.pixels import Limits

LOOPBACK = "tcp://127.0.0.1:*"
END = native.encode_end(ScanEnd("s", 1))
FRAMES = 64
PATIENCE_S = 20.0
LOOK_S = 1.0


class Keyring:
    """The keys of the service, of a client that it lets in, and of a stranger."""

    def __init__(self, folder):
        self.public, self.secret = {}, {}
        for name in ("service", "friend", "stranger"):
            self.public[name], self.secret[name] = make_keys(folder / name, name)
        self.clients = folder / "friend"

    def server(self, name="service"):
        return CurveServer(load_pair(self.secret[name]), self.clients)

    def client(self, name, of="service"):
        return CurveClient(load_pair(self.secret[name]), load_public(self.public[of]))

    def settings(self, **others):
        return {"keys": str(self.secret["service"]), "clients": str(self.clients), **others}


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path)


@pytest.fixture
def peer():
    """Return what opens a PUSH socket with or without keys."""
    context, opened = zmq.Context(), []

    def open_(curve=None, *, kind=zmq.PUSH):
        opened.append(socket := context.socket(kind))
        socket.set(zmq.LINGER, 0)
        secure(socket, curve)
        return socket

    yield open_
    context.destroy(linger=0)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_client_that_is_let_in_is_heard(keyring, peer, tmp_path, transport):
    endpoint = LOOPBACK if transport == "tcp" else f"ipc://{tmp_path}/images"
    with Source(endpoint, NativeDecoder(), bind=True, curve=keyring.server()) as source:
        push = peer(keyring.client("friend"))
        push.connect(source.endpoint)
        push.send_multipart(END)
        assert source.receive(PATIENCE_S).events
        assert source.refusal() is None


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (lambda keyring: keyring.client("stranger"), "its public key is not in the folder"),
        (lambda keyring: keyring.client("friend", of="stranger"), "took another key for ours"),
        (lambda keyring: None, "has no key"),
    ],
    ids=["a stranger", "another key for ours", "no key"],
)
def test_a_client_that_is_not_let_in_is_told_and_sends_nothing(keyring, peer, curve, said):
    with Source(LOOPBACK, NativeDecoder(), bind=True, curve=keyring.server()) as source:
        push = peer(curve(keyring))
        push.connect(source.endpoint)
        push.send_multipart(END, zmq.NOBLOCK)
        assert said in until(source.refusal)
        assert source.silence().broken
        assert source.receive(0.05) is None
        assert source.lost_peers() == 0


def test_a_client_with_keys_at_a_service_without_is_told(keyring, peer):
    with Source(LOOPBACK, NativeDecoder(), bind=True) as source:
        peer(keyring.client("friend")).connect(source.endpoint)
        assert "it wants keys, and we have none" in until(source.refusal)


def test_two_streams_of_one_service_have_their_own_lists_of_clients(keyring, peer, tmp_path):
    elsewhere = CurveServer(load_pair(keyring.secret["service"]), tmp_path / "stranger")
    with (
        Source(LOOPBACK, NativeDecoder(), bind=True, curve=keyring.server()) as images,
        Source(LOOPBACK, NativeDecoder(), bind=True, curve=elsewhere) as positions,
    ):
        for name, source in (("friend", images), ("stranger", positions)):
            push = peer(keyring.client(name))
            push.connect(source.endpoint)
            push.send_multipart(END)
            assert source.receive(PATIENCE_S).events


def test_an_ipc_socket_is_its_owners_alone(tmp_path):
    path = tmp_path / "images"
    with Source(f"ipc://{path}", NativeDecoder(), bind=True):
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="any user of this machine"):
        Source("ipc://@images", NativeDecoder(), bind=True)


def test_only_subscribers_that_are_let_in_get_tiles(keyring, peer):
    publisher = TilePublisher(LOOPBACK, curve=keyring.server())
    subscribers = {name: peer(keyring.client(name), kind=zmq.SUB) for name in ("friend", "stranger")}
    subscribers["plain"] = peer(kind=zmq.SUB)
    for socket in subscribers.values():
        socket.set(zmq.SUBSCRIBE, b"")
        socket.connect(publisher.endpoint)
    try:
        until(lambda: publisher.event("s", "started", {}) or subscribers["friend"].poll(20))
        assert not any(subscribers[name].poll(200) for name in ("stranger", "plain"))
    finally:
        publisher.close()


def test_a_sender_that_zmq_cuts_off_for_its_first_message_is_told(peer):
    limits = Limits(max_message_bytes=1000)
    with Source(LOOPBACK, NativeDecoder(), bind=True, limits=limits) as source:
        push = peer()
        push.connect(source.endpoint)
        push.send(bytes(5000))
        until(source.lost_peers)
        silence = source.silence()
    assert silence.broken
    assert "does it send messages above 1000 bytes" in silence.why


# What `check` says of a detector that listens


@pytest.fixture
def detector(keyring):
    """Return what listens with keys that let the service in, or without, and gives socket and endpoint."""
    with ExitStack() as stack:

        def listen(*, keyed):
            pair = load_pair(keyring.secret["friend"])
            curve = CurveServer(pair, keyring.public["service"].parent) if keyed else None
            socket = stack.enter_context(curve_context(curve)).socket(zmq.PUSH)
            stack.callback(socket.close, 0)
            secure(socket, curve)
            socket.bind(LOOPBACK)
            return socket, socket.get_string(zmq.LAST_ENDPOINT)

        yield listen


@pytest.fixture
def images_found(tiny_bundle, keyring):
    """Return what checks the images' stream and gives verdict and detail."""

    def check(endpoint, timeout_s=LOOK_S, *, ours=None, theirs=None, **settings):
        keys = {} if ours is None else {"keys": str(keyring.secret[ours])}
        key = {} if theirs is None else {"images_key": str(keyring.public[theirs])}
        told = Settings(
            bundle=str(tiny_bundle),
            threads=1,
            images=endpoint,
            images_format="native",
            **keys,
            **key,
            **settings,
        )
        (found,) = (one for one in check_all(told, timeout_s) if one.what == "images")
        return found.verdict, found.detail

    return check


def test_check_finds_a_stream_with_the_right_keys_ok(detector, images_found):
    socket, endpoint = detector(keyed=True)
    sender = threading.Thread(target=socket.send_multipart, args=(END,))  # waits until somebody is there
    sender.start()
    verdict, detail = images_found(endpoint, PATIENCE_S, ours="service", theirs="friend")
    sender.join(PATIENCE_S)
    assert (verdict, "ScanEnd" in detail) == ("OK", True)


@pytest.mark.parametrize(
    ("keyed", "keys", "said"),
    [
        (True, {"ours": "stranger", "theirs": "friend"}, "refused our key"),
        (True, {"ours": "service", "theirs": "stranger"}, "is what we have its public key"),
        (True, {}, "keys"),
        (False, {"ours": "service", "theirs": "friend"}, "has no keys|is what we have its public key"),
    ],
    ids=["our key is refused", "another key for theirs", "we have no key", "they have no key"],
)
def test_check_tells_wrong_keys_from_silence(detector, images_found, keyed, keys, said):
    _, endpoint = detector(keyed=keyed)
    verdict, detail = images_found(endpoint, **keys)
    assert verdict == "ERROR"
    assert re.search(said, detail)
    assert "\n" not in detail


@pytest.mark.parametrize("keys", [{}, {"ours": "service", "theirs": "friend"}], ids=["plain", "keyed"])
def test_check_tells_a_quiet_sender_from_none(detector, images_found, keys):
    _, endpoint = detector(keyed=bool(keys))
    verdict, detail = images_found(endpoint, **keys)
    assert verdict == "TIMEOUT"
    assert f"connected with {endpoint}, and nothing was sent" in detail


def test_check_says_that_nobody_listens_or_came(images_found, keyring):
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    assert "nobody listens at" in images_found(f"tcp://127.0.0.1:{port}", 0.3)[1]
    verdict, detail = images_found(
        LOOPBACK, 0.1, images_bind=True, ours="service", clients=str(keyring.clients)
    )
    assert (verdict, "nobody has come to" in detail) == ("TIMEOUT", True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images_bind": True, "ours": "service"}, "set clients"),
        ({"theirs": "friend"}, "set keys"),
    ],
)
def test_check_says_which_setting_is_missing(images_found, settings, said):
    verdict, detail = images_found(LOOPBACK, 0.05, **settings)
    assert (verdict, said in detail) == ("ERROR", True)


# The whole service


def test_a_scan_from_a_client_that_is_let_in_is_whole_and_a_stranger_is_told(serve, keyring, peer, tiny_file):
    running = serve(**keyring.settings(tiles=LOOPBACK))
    endpoint = running.app.intakes[0].source.endpoint
    stranger = peer(keyring.client("stranger"))
    stranger.connect(endpoint)
    until(
        lambda: any("not in the folder of clients" in line for line in running.get("/api/status")["warnings"])
    )
    where = Destination(endpoint, curve=keyring.client("friend"))
    run_replay(tiny_file, ReplayPlan("tiny", "dectris-v2"), where)
    assert running.finished().ledger.counts().stitched == FRAMES


def test_a_replay_that_listens_lets_in_only_whom_it_knows(serve, keyring, tiny_file, tmp_path):
    stop, endpoint = threading.Event(), f"ipc://{tmp_path}/detector"
    curve = CurveServer(load_pair(keyring.secret["friend"]), keyring.public["service"].parent)
    where = Destination(endpoint, bind=True, curve=curve)
    args = (tiny_file, ReplayPlan("tiny", "native"), where, None, stop)
    sender = threading.Thread(target=run_replay, args=args)
    sender.start()
    try:
        until((tmp_path / "detector").exists)
        running = serve(
            images=endpoint, images_bind=False, images_format="native",
            keys=str(keyring.secret["service"]), images_key=str(keyring.public["friend"]),
        )  # fmt: skip
        assert running.finished().ledger.counts().stitched == FRAMES
    finally:
        stop.set()
        sender.join(PATIENCE_S)


def test_the_service_says_what_it_needs_to_let_other_machines_in(keyring):
    with pytest.raises(ConfigError, match="allow_plain_streams"):
        listening_curve(Settings(allow_remote_streams=True), "tcp://*:5555")
    keyed = Settings(allow_remote_streams=True, **keyring.settings())
    with Source("tcp://0.0.0.0:*", NativeDecoder(), bind=True, allow_remote=True,
                curve=listening_curve(keyed, "tcp://0.0.0.0:*")) as source:  # fmt: skip
        assert source.endpoint.startswith("tcp://0.0.0.0:")


def test_keys_that_nothing_would_use_are_refused(keyring, tmp_path):
    plain = {"images": "tcp://127.0.0.1:1", "record": str(tmp_path)}
    ours = {"keys": str(keyring.secret["service"])}
    for keys, why in (
        ({"keys": "NOWHERE"}, "NOWHERE"),
        (ours, "nothing listens"),
        ({"clients": str(keyring.clients)}, "clients without keys"),
    ):
        with pytest.raises(ConfigError, match=why) as refused:
            list(open_intakes(Settings(**plain, **keys)))
        assert "\n" not in str(refused.value)


def test_recording_alone_tells_who_was_refused_and_who_went_away(keyring, peer, tmp_path):
    told = []
    settings = Settings(
        images=f"ipc://{tmp_path}/images", images_bind=True, images_format="native",
        record=str(tmp_path / "scans"), end_grace_s=0.1, **keyring.settings(),
    )  # fmt: skip
    recording = threading.Thread(target=record, args=(settings, told.append, 1))
    recording.start()
    until(lambda: told)
    peer(keyring.client("stranger")).connect(settings.images)
    until(lambda: any("its public key is not in the folder" in line for line in told))
    start = ScanStart("s", (2, 2), np.dtype("<u2"))
    gone = peer(keyring.client("friend"))
    gone.connect(settings.images)
    gone.send_multipart(native.encode_start(start))
    gone.send_multipart(native.encode_frames("s", 0, np.ones((1, 2, 2), "<u2"), "raw"))
    gone.close(linger=5000)
    until(lambda: any("went away in the middle of a scan" in line for line in told))
    end = peer(keyring.client("friend"))
    end.connect(settings.images)
    end.send_multipart(native.encode_end(ScanEnd("s", 1)))
    recording.join(PATIENCE_S)
    assert not recording.is_alive()
    assert len(told) == len(set(told))
