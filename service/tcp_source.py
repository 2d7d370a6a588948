"""A receiving TCP connection: bytes come in, a decoder's events come out; it connects again by itself."""

from __future__ import annotations

import re
import socket
import time
from types import TracebackType
from typing import Final, Protocol

from service.errors import ConfigError, StreamError
from service.messages import Event, Notice
from service.security.peers import Silence
from service.sources import Received
from service.wire.panda import PORT

SCHEME: Final = "panda://"

_ADDRESS: Final = re.compile(r"(?:panda|tcp)://(\[[0-9A-Fa-f:.]+\]|[^:/\s\[\]]+)(?::(\d{1,5}))?")
_LAST_PORT: Final = 65535
_CONNECT_S: Final = 1.0
_RETRY_S: Final = 1.0
_MOST_BYTES: Final = 1 << 16
# A PandA says nothing between captures: one that has lost its power is noticed by the kernel's own questions.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class StreamDecoder(Protocol):
    """What decodes a stream of bytes."""

    def hello(self) -> bytes:
        """Return what to send first over a new connection."""
        ...

    def feed(self, received: bytes) -> list[Event]:
        """Return the events of the bytes that came, or raise `MessageError`; then we hang up."""
        ...

    def lost(self) -> list[Event]:
        """Return what is left when a connection has gone."""
        ...


def tcp_address(endpoint: str) -> tuple[str, int]:
    """Return host and port of `panda://host:port` or `tcp://host:port`; without a port that of a PandA.

    Raises:
        ConfigError: it is none, or the port cannot be.
    """
    told = _ADDRESS.fullmatch(endpoint)
    if told is None or int(told[2] or PORT) > _LAST_PORT:
        raise ConfigError(f"endpoint {endpoint!r} is not panda://host:port")
    return told[1].strip("[]"), int(told[2] or PORT)


class TcpSource:
    """A TCP connection and its decoder; owns no thread.

    Nobody need be there yet: it tries again, about once a second, until somebody answers.

    Attributes:
        endpoint: where the peer listens.

    Args:
        endpoint: `panda://host:port` or `tcp://host:port`.
        decoder: of what is spoken there.

    Raises:
        ConfigError: the endpoint is not usable.
    """

    def __init__(self, endpoint: str, decoder: StreamDecoder) -> None:
        self._address = tcp_address(endpoint)
        self.endpoint = endpoint
        self._decoder = decoder
        self._socket: socket.socket | None = None
        self._next_try_s = 0.0
        self._said = False  # that nobody answers
        self._lost_peers = 0

    def receive(self, timeout_s: float) -> Received | None:
        """Return what the next bytes say, None when none came in time; never raises for what a peer sent."""
        if self._socket is None and (unreachable := self._connect(timeout_s)) is not None:
            return unreachable
        if self._socket is None:
            return None
        self._socket.settimeout(max(timeout_s, 1e-3))
        try:
            received = self._socket.recv(_MOST_BYTES)
        except TimeoutError:
            return None
        except OSError:
            received = b""
        return self._decoded(received) if received else self._disconnected()

    def lost_peers(self) -> int:
        """Return how often the peer has gone away so far."""
        return self._lost_peers

    def refusal(self) -> str | None:
        """Return None: there are no keys, and so nobody is refused for want of one."""
        return None

    def silence(self) -> Silence:
        """Return why nothing has come so far; that nobody answers is said where it is found."""
        there = "nobody answers at" if self._socket is None else "connected, and nothing came from"
        return Silence(False, f"{there} {self.endpoint}: is it the right port?")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> TcpSource:
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _connect(self, timeout_s: float) -> Received | None:
        """Try to connect, if it is time to; return what is to be said where nobody answers."""
        wait_s = self._next_try_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            return None
        self._next_try_s = time.monotonic() + _RETRY_S
        try:
            self._socket = _connected(self._address)
            self._socket.sendall(self._decoder.hello())
        except OSError as error:
            self.close()
            return self._unreachable(error)
        self._said = False
        return None

    def _unreachable(self, error: OSError) -> Received | None:
        if self._said:
            return None
        self._said = True
        why = error.strerror or error
        line = f"nobody answers at {self.endpoint} ({why}): is it on, and is that its data port?"
        return Received((Notice("positions_source", line),), 0)

    def _decoded(self, received: bytes) -> Received:
        begun_s = time.perf_counter()
        try:
            events = tuple(self._decoder.feed(received))
        except StreamError as error:
            self.close()
            return Received(tuple(self._decoder.lost()), len(received), error)
        return Received(events, len(received), decode_s=time.perf_counter() - begun_s)

    def _disconnected(self) -> Received | None:
        self.close()
        self._lost_peers += 1
        events = tuple(self._decoder.lost())
        return Received(events, 0) if events else None


def _connected(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, timeout=_CONNECT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection
