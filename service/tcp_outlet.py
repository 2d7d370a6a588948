"""A PandA's data port as a detector made of a file has it: it listens, and serves one client."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Final

from service.errors import ConfigError, StalledError
from service.sources import check_endpoint
from service.tcp_source import tcp_address
from service.wire.panda import REQUEST

_POLL_S: Final = 0.05
_LONGEST_REQUEST: Final = 256


class TcpOutlet:
    """Listens, waits for a client, answers its request, and sends it what it is given.

    Args:
        endpoint: `panda://host:port` to listen at.
        allow_remote: let other machines connect.
        stop: ends all waiting when set.
        stall_s: how long nobody may come, or take what is sent.

    Raises:
        ConfigError: the endpoint cannot be had, or is off loopback without leave.
    """

    def __init__(self, endpoint: str, *, allow_remote: bool, stop: threading.Event, stall_s: float) -> None:
        host, port = tcp_address(endpoint)
        told = f"[{host}]" if ":" in host else host
        check_endpoint(f"tcp://{told}:{port}", bind=True, allow_remote=allow_remote)
        self.endpoint = endpoint
        self._stop = stop
        self._stall_s = stall_s
        self._client: socket.socket | None = None
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigError(f"cannot listen at {endpoint}: {error.strerror or error}") from error

    def send(self, parts: list[bytes]) -> bool:
        """Send bytes to the client, once there is one; False when told to stop before they could go.

        Raises:
            StalledError: nobody came, or took them, in time; or the client went away.
        """
        deadline_s = time.monotonic() + self._stall_s
        while self._client is None and not self._stop.is_set():
            self._check_stall(deadline_s)
            self._client = self._accepted()
        if self._client is not None:
            return self._pass(self._client, memoryview(b"".join(parts)), deadline_s)
        return False

    def __enter__(self) -> TcpOutlet:
        """Return the outlet itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both sockets; what was sent still arrives."""
        if self._client is not None:
            self._client.close()
        self._listener.close()

    def _accepted(self) -> socket.socket | None:
        """Return a client that has asked as it should, None when none has."""
        self._listener.settimeout(_POLL_S)
        try:
            client, _ = self._listener.accept()
        except TimeoutError:
            return None
        client.settimeout(self._stall_s)
        if _requested(client):
            client.sendall(b"OK\n")
            client.settimeout(_POLL_S)
            return client
        client.close()
        return None

    def _pass(self, client: socket.socket, left: memoryview, deadline_s: float) -> bool:
        while left and not self._stop.is_set():
            try:
                left = left[client.send(left) :]
            except TimeoutError:
                self._check_stall(deadline_s)
            except OSError as error:
                raise StalledError(f"the client at {self.endpoint} went away: {error.strerror}") from error
        return not left

    def _check_stall(self, deadline_s: float) -> None:
        if time.monotonic() > deadline_s:
            raise StalledError(
                f"nobody took positions at {self.endpoint} for {self._stall_s:g} s: is the service running, "
                "and does it connect there?"
            )


def _requested(client: socket.socket) -> bool:
    """Whether a client asks for what a PandA sends here; one that asks otherwise is told so."""
    asked = b""
    try:
        while not asked.endswith(b"\n") and len(asked) < _LONGEST_REQUEST:
            asked += (more := client.recv(_LONGEST_REQUEST))
            if not more:
                return False
        if asked != REQUEST:
            client.sendall(b"ERR only " + REQUEST)
    except OSError:
        return False
    return asked == REQUEST
