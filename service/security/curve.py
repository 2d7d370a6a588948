"""CURVE on a socket: encryption, and who may connect (github.com/zeromq/rfc, 25 to 27).

Whoever listens is CURVE's server, whoever connects its client. CURVE alone lets in any client that knows the
server's public key: only ZAP tells clients apart, and libzmq asks it only where the socket has a domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from service.security.keys import KeyPair, load_clients

_DOMAIN: Final = "ptycholive"

Context = zmq.Context[zmq.Socket[bytes]]


@dataclass(frozen=True, slots=True)
class CurveServer:
    """CURVE where we listen.

    Attributes:
        own: our keys.
        clients: folder of the public keys of those who may connect.

    Raises:
        ConfigError: there is no key in it, or one that is none.
    """

    own: KeyPair
    clients: Path

    def __post_init__(self) -> None:
        """Refuse clients whose keys cannot be read: the authenticator would only log it."""
        load_clients(self.clients)


@dataclass(frozen=True, slots=True)
class CurveClient:
    """CURVE where we connect.

    Attributes:
        own: our keys.
        server: public key of whoever listens there.
    """

    own: KeyPair
    server: bytes


Curve = CurveServer | CurveClient


@contextmanager
def curve_context(curve: Curve | None) -> Iterator[Context]:
    """Yield a context of its own for sockets; with a server's keys, one in which only its clients get in.

    ZAP has one authenticator a context. Sockets must be closed before it ends.
    """
    with zmq.Context() as context:
        if not isinstance(curve, CurveServer):
            yield context
            return
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        try:
            authenticator.configure_curve(_DOMAIN, curve.clients)
            yield context
        finally:
            authenticator.stop()


def secure(socket: zmq.Socket[bytes], curve: Curve | None) -> None:
    """Give a socket its keys, before it listens or connects; None leaves it plain."""
    if curve is None:
        return
    socket.set(zmq.CURVE_SECRETKEY, curve.own.secret)
    socket.set(zmq.CURVE_PUBLICKEY, curve.own.public)
    if isinstance(curve, CurveServer):
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.ZAP_DOMAIN, _DOMAIN.encode())
    else:
        socket.set(zmq.CURVE_SERVERKEY, curve.server)
