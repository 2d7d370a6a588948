"""Tiles out, over ZMQ PUB, for programs that do more with them than a picture."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
import zmq

from service.errors import ConfigError
from service.messages import Tiles
from service.security.curve import CurveServer, curve_context, secure
from service.sources import check_endpoint, open_endpoint

VERSION = 1
CHANNELS = ("amplitude", "cos", "sin")

_LINGER_MS = 1000
_WAITING_BATCHES = 200  # a subscriber; 16 tiles of 80² pixels each are 120 MB


class TilePublisher:
    """Sends tiles and scan events; a subscriber that is too slow misses the newest, never slows the stream.

    Used by one thread.
    """

    def __init__(
        self, endpoint: str, *, allow_remote: bool = False, curve: CurveServer | None = None
    ) -> None:
        """Bind.

        Args:
            endpoint: where.
            allow_remote: let other machines connect.
            curve: our keys and those of the subscribers who may connect; None for a plain socket.

        Raises:
            ConfigError: the endpoint is not usable, in use, or off loopback without leave.
        """
        check_endpoint(endpoint, bind=True, allow_remote=allow_remote)
        self._open = ExitStack()
        context = self._open.enter_context(curve_context(curve))
        self._socket: zmq.Socket[bytes] = context.socket(zmq.PUB)
        self._socket.set(zmq.LINGER, _LINGER_MS)
        self._socket.set(zmq.SNDHWM, _WAITING_BATCHES)
        secure(self._socket, curve)
        self._encode = msgspec.msgpack.Encoder().encode
        try:
            self.endpoint = open_endpoint(self._socket, endpoint, bind=True)
        except ConfigError:
            self.close()
            raise

    def tiles(self, tiles: Tiles, model: str, object_pixel_m: float, published_ns: int) -> None:
        """Send the tiles of one batch under `tiles/<scan>`."""
        planes = np.stack([tiles.amplitude, tiles.cos, tiles.sin], axis=1).astype("<f2")
        head = {
            "v": VERSION,
            "scan": tiles.scan,
            "model": model,
            "frames": tiles.indices.tolist(),
            "positions_m": tiles.positions_m.astype("<f8").tobytes(),
            "object_pixel_m": object_pixel_m,
            "shape": list(planes.shape),
            "dtype": "<f2",
            "channels": CHANNELS,
            "received_ns": int(tiles.received_ns.min()),
            "published_ns": published_ns,
        }
        self._socket.send_multipart(
            [f"tiles/{tiles.scan}".encode(), self._encode(head), planes.data], copy=True
        )

    def event(self, scan: str, event: str, details: dict[str, Any]) -> None:
        """Send "started" or "finished" under `scan/<scan>`."""
        head = self._encode({"v": VERSION, "scan": scan, "event": event, **details})
        self._socket.send_multipart([f"scan/{scan}".encode(), head])

    def close(self) -> None:
        """Close the socket; subscribers have a second to take what waits for them."""
        self._socket.close()
        self._open.close()
