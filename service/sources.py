"""The only room with receiving sockets: bytes come in, a decoder's events come out."""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import msgspec
import zmq

from service.errors import ConfigError, MessageError, StreamError
from service.messages import Blob, Event, ScanStart
from service.security.curve import Curve, CurveServer, curve_context, secure
from service.security.peers import Peers, Silence
from service.wire.array_1 import Array1Decoder
from service.wire.dectris_v1 import DectrisV1Decoder
from service.wire.dectris_v2 import DectrisV2Decoder
from service.wire.detecting import Decoder, DetectingDecoder
from service.wire.fields import Parts
from service.wire.native import NativeDecoder
from service.wire.pixels import DEFAULT_LIMITS, Limits

SocketType = Literal["pull", "sub"]

_TCP: Final = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^:/]+):(\d{1,5}|\*)")
_LOCAL: Final = re.compile(r"(ipc|inproc)://.+")
_ABSTRACT: Final = "ipc://@"  # no file, and so no mode that could keep others out
_OWNER_ONLY: Final = 0o600
_LAST_PORT: Final = 65535
_WAITING_PUSHED: Final = 64  # messages that a pusher has got rid of; the others wait at its side
_COPIED_BYTES: Final = 1 << 15  # parts up to this are small

_DECODERS: Final[Mapping[str, Callable[[Limits, str | None], Decoder]]] = {
    "native": lambda limits, _channel: NativeDecoder(limits),
    "dectris-v1": lambda limits, _channel: DectrisV1Decoder(limits),
    "dectris-v2": DectrisV2Decoder,
    "array-1.0": lambda limits, _channel: Array1Decoder(limits),
    "auto": lambda limits, channel: DetectingDecoder(lambda told: decoder_for(told, limits, channel)),
}
FORMATS: Final = tuple(_DECODERS)


def decoder_for(stream_format: str, limits: Limits = DEFAULT_LIMITS, channel: str | None = None) -> Decoder:
    """Return a new decoder of a stream format.

    Args:
        stream_format: one of `FORMATS`; "auto" takes that of the first message.
        limits: what its peer may make us take memory for.
        channel: the detector's channel to take, where the format has several; None takes the first.

    Raises:
        ConfigError: there is no such format.
    """
    try:
        return _DECODERS[stream_format](limits, channel)
    except KeyError:
        raise ConfigError(f"format {stream_format!r} is not one of {', '.join(FORMATS)}") from None


class Received(msgspec.Struct, frozen=True, eq=False):
    """One message that came in.

    Attributes:
        events: what it says; empty when it could not be used.
        nbytes: its size, all parts together.
        error: why it could not be used, or None.
        decode_s: seconds that the decoder took.
        parts: the message itself; empty where it was above the limits.
        received_ns: wall clock when it came, ns since the epoch.
    """

    events: tuple[Event, ...]
    nbytes: int
    error: StreamError | None = None
    decode_s: float = 0.0
    parts: Parts = ()
    received_ns: int = 0


class Source:
    """A socket and its decoder; owns no thread.

    Attributes:
        endpoint: where it really listens: a wildcard port is filled in.
    """

    def __init__(
        self,
        endpoint: str,
        decoder: Decoder,
        *,
        bind: bool = False,
        socket_type: SocketType = "pull",
        limits: Limits = DEFAULT_LIMITS,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        allow_remote: bool = False,
        curve: Curve | None = None,
    ) -> None:
        """Open the socket.

        Args:
            endpoint: `tcp://host:port`, `ipc://path` or `inproc://name`.
            decoder: of the format that is spoken there.
            bind: listen there instead of connecting to it.
            socket_type: "pull" for a PUSH peer, "sub" for a PUB peer.
            limits: what the peer may make us take memory for.
            context: the ZMQ context, the process's own where None; a server's keys need one of their own.
            allow_remote: let other machines connect to a bound TCP endpoint.
            curve: our keys and theirs; None for a plain socket.

        Raises:
            ConfigError: the endpoint is not usable, in use, or off loopback without leave.
        """
        check_endpoint(endpoint, bind=bind, allow_remote=allow_remote)
        self._decoder = decoder
        self._limits = limits
        kind = zmq.PULL if socket_type == "pull" else zmq.SUB
        self._open = ExitStack()
        if isinstance(curve, CurveServer):
            context = self._open.enter_context(curve_context(curve))
        self._socket: zmq.Socket[bytes] = (context or zmq.Context.instance()).socket(kind)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, limits.max_message_bytes)
        self._most_waiting = limits.max_waiting_messages if kind == zmq.SUB else _WAITING_PUSHED
        self._largest_bytes = 0
        self._socket.set(zmq.RCVHWM, self._most_waiting)
        if socket_type == "sub":
            self._socket.set(zmq.SUBSCRIBE, b"")
        secure(self._socket, curve)
        self._peers = Peers(self._socket, listens=bind, has_keys=curve is not None)
        try:
            self.endpoint = open_endpoint(self._socket, endpoint, bind=bind)
        except ConfigError:
            self.close()
            raise

    def receive(self, timeout_s: float) -> Received | None:
        """Return the next message, None when none came in time; never raises for what a peer sent."""
        first = self._first_part(timeout_s)
        if first is None:
            return None
        parts, nbytes, error = self._with_others(first)
        if error is not None:
            return Received((), nbytes, error)
        received = self._decode(parts, nbytes, time.time_ns())
        self._bound_what_waits(received)
        return received

    def decode(self, parts: Parts, received_ns: int) -> Received:
        """Return what a message says that came at that time and is given back after a restart."""
        return self._decode(parts, sum(map(len, parts)), received_ns)

    def _decode(self, parts: Parts, nbytes: int, received_ns: int) -> Received:
        begun_s = time.perf_counter()
        try:
            events = tuple(self._decoder.decode(parts, received_ns))
        except StreamError as refused:
            return Received((), nbytes, refused)
        return Received(events, nbytes, None, time.perf_counter() - begun_s, parts, received_ns)

    def lost_peers(self) -> int:
        """Return how often a peer has gone away so far.

        It may have finished; but ZMQ also cuts off, without a word, a peer that sends a part above
        `max_message_bytes`, so that a peer lost in the middle of a scan is worth an alarm.
        """
        return self._peers.lost()

    def refusal(self) -> str | None:
        """Return who did not let whom in for want of a key, None where nobody was refused."""
        return self._peers.refusal(self.endpoint)

    def silence(self) -> Silence:
        """Return why nothing has come so far."""
        return self._peers.silence(self.endpoint, self._limits.max_message_bytes)

    def close(self) -> None:
        """Close the socket; messages that still wait in it are lost."""
        self._peers.close()
        self._socket.close(linger=0)
        self._open.close()

    def __enter__(self) -> Source:
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.close()

    def _first_part(self, timeout_s: float) -> zmq.Frame | None:
        """Return the first part of the next message, None when none came in time.

        In a fast stream one waits: it is asked for first, and polled for where there is none.
        """
        try:
            return self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            waits = self._socket.poll(round(timeout_s * 1000))
            return self._socket.recv(copy=False) if waits else None

    def _with_others(self, part: zmq.Frame) -> tuple[list[Blob], int, MessageError | None]:
        """Take the rest of a message out of the socket, and keep it if it is within the limits."""
        parts = [_content(part)]
        count, nbytes = 1, len(parts[0])
        while part.more:
            part = self._socket.recv(copy=False)
            content = _content(part)
            count, nbytes = count + 1, nbytes + len(content)
            if self._within(count, nbytes):
                parts.append(content)
            else:
                parts.clear()
        return parts, nbytes, None if self._within(count, nbytes) else self._oversized(count, nbytes)

    def _bound_what_waits(self, received: Received) -> None:
        """Let the socket hold as many messages as its bytes allow: ZMQ's high-water mark counts messages.

        How large they are a start tells of those of its scan; else the largest one so far.
        """
        largest = max(received.nbytes, self._largest_bytes)
        for event in received.events:
            if isinstance(event, ScanStart):
                largest = math.prod(event.frame_shape) * event.dtype.itemsize
        if largest != self._largest_bytes:
            self._largest_bytes = largest
            most = self._limits.max_waiting_bytes // largest
            self._socket.set(zmq.RCVHWM, max(1, min(self._most_waiting, most)))

    def _within(self, count: int, nbytes: int) -> bool:
        return count <= self._limits.max_parts and nbytes <= self._limits.max_message_bytes

    def _oversized(self, count: int, nbytes: int) -> MessageError:
        return MessageError(
            f"a message of {count} parts and {nbytes} bytes came to {self.endpoint}, above the limits of "
            f"{self._limits.max_parts} and {self._limits.max_message_bytes}: is another stream sent here?"
        )


def _content(part: zmq.Frame) -> Blob:
    """Return the bytes of a part, those of a small one copied: that takes no longer than a view of them."""
    return part.bytes if len(part) <= _COPIED_BYTES else part.buffer.toreadonly()


def check_endpoint(endpoint: str, *, bind: bool, allow_remote: bool = False) -> None:
    """Refuse an endpoint that is misspelt, or that would let others in without leave.

    Raises:
        ConfigError: one line that says what is wrong.
    """
    tcp = _TCP.fullmatch(endpoint)
    if tcp and tcp[2] != "*" and int(tcp[2]) > _LAST_PORT:  # ZMQ would take it modulo 65536
        raise ConfigError(f"endpoint {endpoint!r}: ports end at {_LAST_PORT}")
    if not tcp and not _LOCAL.fullmatch(endpoint):
        raise ConfigError(f"endpoint {endpoint!r} is not tcp://host:port, ipc://path or inproc://name")
    if bind and endpoint.startswith(_ABSTRACT):
        raise ConfigError(
            f"any user of this machine could connect to {endpoint}: use a path, as ipc:///run/a"
        )
    if bind and not allow_remote and is_remote(endpoint):
        raise ConfigError(
            f"binding {endpoint} would let other machines in: use 127.0.0.1 or ipc://, or allow it explicitly"
        )


def is_remote(endpoint: str) -> bool:
    """Tell whether an endpoint is off loopback."""
    tcp = _TCP.fullmatch(endpoint)
    return tcp is not None and not _is_loopback(tcp[1])


def open_endpoint(socket: zmq.Socket[bytes], endpoint: str, *, bind: bool) -> str:
    """Bind or connect a socket and return the endpoint, a wildcard port filled in.

    The file of a bound IPC socket is given to its owner alone: who may not write to it cannot connect.

    Raises:
        ConfigError: the address is in use, or does not exist on this machine.
    """
    socket.set(zmq.IPV6, int("[" in endpoint))
    try:
        (socket.bind if bind else socket.connect)(endpoint)
    except zmq.ZMQError as error:
        verb = "bind" if bind else "connect to"
        raise ConfigError(
            f"cannot {verb} {endpoint}: {error.strerror}; is another program using it?"
        ) from error
    opened = str(socket.get_string(zmq.LAST_ENDPOINT))
    if bind and opened.startswith("ipc://"):
        Path(opened.removeprefix("ipc://")).chmod(_OWNER_ONLY)
    return opened


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
