"""The sockets that a replay sends through."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import zmq

from service.errors import StalledError
from service.security.curve import Context, Curve, curve_context, secure
from service.sources import check_endpoint, open_endpoint
from service.tcp_outlet import TcpOutlet

Lane = Literal["detector", "positions"]

_LINGER_MS: Final = 30_000
_LINGER_STOPPED_MS: Final = 200
_POLL_MS: Final = 50


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a replay sends to.

    Attributes:
        to: endpoint of the detector's stream.
        positions_to: endpoint of the positions, where they have a stream of their own.
        bind: listen there, as real detectors do, instead of connecting.
        allow_remote: let other machines connect where it binds.
        curve: our keys and those of the receiver; None for plain sockets.
        stall_s: how long nobody may take a message.
    """

    to: str
    positions_to: str | None = None
    bind: bool = False
    allow_remote: bool = False
    curve: Curve | None = None
    stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Outlet:
    """A PUSH socket that says so when nobody takes its messages."""

    socket: zmq.Socket[bytes]
    endpoint: str
    stop: threading.Event
    stall_s: float

    def send(self, parts: list[bytes]) -> bool:
        """Send one message; return False when told to stop before it could go.

        Raises:
            StalledError: nobody took it in time.
        """
        deadline_s = time.monotonic() + self.stall_s
        while not self.stop.is_set():
            try:
                self.socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                self._check_stall(deadline_s)
                self.socket.poll(_POLL_MS, zmq.POLLOUT)
            else:
                return True
        return False

    def _check_stall(self, deadline_s: float) -> None:
        if time.monotonic() > deadline_s:
            raise StalledError(
                f"nobody took a message at {self.endpoint} for {self.stall_s:g} s: is the service running, "
                "and does it listen there?"
            )


@contextmanager
def open_outlets(
    where: Destination, panda: bool, waiting: int, stop: threading.Event
) -> Iterator[dict[Lane, Outlet | TcpOutlet]]:
    """Yield an open outlet for each stream.

    Args:
        where: the endpoints.
        panda: the positions go out as a PandA's, which listens.
        waiting: messages that may wait to be sent.
        stop: ends all waiting when set.

    Raises:
        ConfigError: an endpoint is not usable.
    """
    with curve_context(where.curve) as context, ExitStack() as stack:
        outlets: dict[Lane, Outlet | TcpOutlet] = {
            "detector": stack.enter_context(_push(context, where, where.to, waiting, stop))
        }
        if where.positions_to is not None and panda:
            outlets["positions"] = stack.enter_context(_listening(where, where.positions_to, stop))
        elif where.positions_to is not None:
            outlets["positions"] = stack.enter_context(
                _push(context, where, where.positions_to, waiting, stop)
            )
        yield outlets


def _listening(where: Destination, endpoint: str, stop: threading.Event) -> TcpOutlet:
    return TcpOutlet(endpoint, allow_remote=where.allow_remote, stop=stop, stall_s=where.stall_s)


@contextmanager
def _push(
    context: Context, where: Destination, endpoint: str, waiting: int, stop: threading.Event
) -> Iterator[Outlet]:
    check_endpoint(endpoint, bind=where.bind, allow_remote=where.allow_remote)
    socket = context.socket(zmq.PUSH)
    socket.set(zmq.SNDHWM, waiting)
    secure(socket, where.curve)
    socket.set(zmq.IMMEDIATE, 1)  # queue for a peer that is there, not for one that may never come
    linger_ms = _LINGER_STOPPED_MS
    try:
        yield Outlet(socket, open_endpoint(socket, endpoint, bind=where.bind), stop, where.stall_s)
        linger_ms = _LINGER_STOPPED_MS if stop.is_set() else _LINGER_MS
    finally:
        socket.close(linger=linger_ms)
