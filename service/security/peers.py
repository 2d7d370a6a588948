"""What a socket's monitor tells of those who came: let in, refused, gone; or nobody at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

_LET_IN, _REFUSED, _UNLIKE, _BROKEN, _GONE, _CAME = "let in", "refused", "unlike", "broken", "gone", "came"
_KINDS: Final[dict[int, str]] = {
    zmq.EVENT_CONNECTED: _CAME,
    zmq.EVENT_ACCEPTED: _CAME,
    zmq.EVENT_HANDSHAKE_SUCCEEDED: _LET_IN,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: _REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: _BROKEN,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: _BROKEN,
    zmq.EVENT_DISCONNECTED: _GONE,
}


@dataclass(frozen=True, slots=True)
class Silence:
    """Why nothing comes.

    Attributes:
        broken: somebody is there, and waiting will not help.
        why: for the operator.
    """

    broken: bool
    why: str


class Peers:
    """Counts those who came to a socket, and what became of them.

    Args:
        socket: not bound or connected yet.
        listens: they come to us, instead of us to them.
        has_keys: the socket has CURVE.
    """

    def __init__(self, socket: zmq.Socket[bytes], *, listens: bool, has_keys: bool) -> None:
        self._socket = socket
        self._monitor = socket.get_monitor_socket(sum(_KINDS))
        self._listens = listens
        self._has_keys = has_keys
        self._counted: Counter[str] = Counter()

    def lost(self) -> int:
        """Return how many have gone away that had been let in."""
        counted = self._count()  # every failed handshake ends in a going, too
        return max(0, counted[_GONE] - counted[_REFUSED] - counted[_UNLIKE] - counted[_BROKEN])

    def refusal(self, endpoint: str) -> str | None:
        """Return who did not let whom in at an endpoint, None where nobody was refused."""
        counted = self._count()
        if counted[_REFUSED]:
            return self._no_access(endpoint)
        if counted[_UNLIKE]:
            return self._no_common_mechanism(endpoint)
        hung_up = counted[_BROKEN] and not counted[_LET_IN]
        return self._no_handshake(endpoint) if hung_up else None

    def silence(self, endpoint: str, max_message_bytes: int) -> Silence:
        """Return why nothing has come from an endpoint so far; ZMQ cuts off who sends a larger part."""
        refusal = self.refusal(endpoint)
        if refusal is not None:
            return Silence(True, refusal)
        lost = self.lost()
        return (
            Silence(True, gone(endpoint, max_message_bytes)) if lost else Silence(False, self._wait(endpoint))
        )

    def close(self) -> None:
        """Stop to watch."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def _count(self) -> Counter[str]:
        while self._monitor.poll(0):
            told = recv_monitor_message(self._monitor)
            unlike = told["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            kind = _KINDS.get(told["event"], _CAME)
            self._counted[_UNLIKE if kind == _BROKEN and unlike else kind] += 1
        return self._counted

    def _no_access(self, endpoint: str) -> str:
        if self._listens:
            return f"a client was refused at {endpoint}: its public key is not in the folder of clients"
        return f"{endpoint} refused our key: let our public key in there, then start this anew"

    def _no_common_mechanism(self, endpoint: str) -> str:
        if self._listens:
            theirs = "it has no key" if self._has_keys else "it wants keys, and we have none"
            return f"a client was refused at {endpoint}: {theirs}"
        if self._has_keys:
            return f"{endpoint} has no keys, though we were given its public one: is it the right sender?"
        return f"{endpoint} asks for keys: set keys, and its public one"

    def _no_handshake(self, endpoint: str) -> str:
        if self._listens and self._has_keys:
            return f"a client was refused at {endpoint}: it has no key, or took another key for ours"
        if self._listens:
            return f"a client hung up at {endpoint}: it wants keys, and we have none, or it speaks no ZMQ"
        if self._has_keys:
            return f"{endpoint} refused us: is what we have its public key?"
        return f"{endpoint} hung up on us: does it speak ZMQ, and without keys?"

    def _wait(self, endpoint: str) -> str:
        counted = self._count()
        if counted[_LET_IN]:
            return f"connected with {endpoint}, and nothing was sent: is the detector armed?"
        if counted[_CAME]:
            return f"connected with {endpoint}, which does not answer as ZMQ does: is it the right port?"
        if self._listens:
            return f"nobody has come to {endpoint}: is the sender running, and armed?"
        return f"nobody listens at {endpoint}: is the sender running, and armed?"


def gone(endpoint: str, max_message_bytes: int) -> str:
    """Return the line about a sender that has gone: it may have been ZMQ that cut it off, without a word."""
    return (
        f"the sender at {endpoint} went away without a message: did it end, or does it send messages "
        f"above {max_message_bytes} bytes?"
    )
