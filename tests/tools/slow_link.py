"""A network between browser and service that can be made slow: a TCP relay of a few bytes a second."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from urllib.parse import urlsplit

_CHUNK_BYTES = 4096
_WINDOW_BYTES = 16_384  # of what waits in the relay, so that the service feels the slow side at once


class SlowLink:
    """Relays connections to a service; what comes back goes at `bytes_per_s`, None as fast as it can."""

    def __init__(self, url: str) -> None:
        self.bytes_per_s: float | None = None
        self._to = ("127.0.0.1", urlsplit(url).port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> SlowLink:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # of a listener that was closed
            while True:
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
                far.connect(self._to)
                self._open += [near, far]
                threading.Thread(target=self._relay, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._relay, args=(far, near, True), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, is_slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                target.sendall(data)
                if is_slow and self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
            target.shutdown(socket.SHUT_WR)
