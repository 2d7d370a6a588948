"""What changed, for the viewer: `/api/live`.

The server sends text messages, JSON with `"type": "state"`, and binary messages, one block each. All
numbers are little-endian:

    offset  type   field
    0       4s     magic, b"PTLB"
    4       u16    version of this layout, 2
    6       u16    block_px, the side of a block in object pixels
    8       u32    generation of the mosaic: another number is another mosaic
    12      i32    by, the block's row; it holds pixel rows by·block_px … (by + 1)·block_px − 1
    16      i32    bx, the block's column
    20      u32    version of the mosaic that the block was taken from
    24      f2     amplitude, phase (rad), agreement, coverage, confidence: block_px² numbers each, row-major

The viewer may send `{"scan": name}` to follow another scan, `{"scan": null}` for the current one.

Each viewer has what it was last sent and is brought up to date from there, as fast as it reads: a slow
viewer sees fewer updates, and nothing queues for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from contextlib import suppress
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.images import Channel
from service.mosaic import Mosaic
from service.web.view import LiveView

MAX_CLIENT_MESSAGE_BYTES = 1024

_HEADER = struct.Struct("<4sHHIiiI")
_MAGIC = b"PTLB"
_LAYOUT = 2
_PERIOD_S = 0.125
_HEARTBEAT_S = 2.0
_CACHED_BLOCKS = 256
_FLOAT16_MAX = 65504.0
_UNSUPPORTED_DATA = 1003


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """A viewer's message: which scan it wants to follow, None for the current one."""

    scan: str | None


class Feed:
    """The blocks of one mosaic, prepared once for all viewers.

    Args:
        mosaic: the mosaic, growing meanwhile.
        generation: its number within this process.
    """

    def __init__(self, mosaic: Mosaic, generation: int) -> None:
        self.mosaic = mosaic
        self.generation = generation
        self._version = mosaic.version
        self._prepared: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def changed_since(self, version: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the mosaic's version now, and the blocks that changed after `version`."""
        now = self.mosaic.version
        if now != self._version:
            for block in self.mosaic.changed_since(self._version):
                self._prepared.pop(block, None)
            self._version = now
        return now, self.mosaic.changed_since(version)

    def message(self, by: int, bx: int) -> bytes:
        """Return the binary message of one block."""
        prepared = self._prepared.get((by, bx))
        if prepared is None:
            prepared = self._prepare(by, bx)
            self._prepared[by, bx] = prepared
        self._prepared.move_to_end((by, bx))
        if len(self._prepared) > _CACHED_BLOCKS:
            self._prepared.popitem(last=False)
        return prepared

    def _prepare(self, by: int, bx: int) -> bytes:
        version = self.mosaic.version & 0xFFFFFFFF
        block = self.mosaic.block(by, bx)
        planes = np.stack([block.amplitude, block.phase, block.agreement, block.coverage, block.confidence])
        pixels = np.clip(planes, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2")
        header = _HEADER.pack(_MAGIC, _LAYOUT, pixels.shape[-1], self.generation, by, bx, version)
        return header + pixels.tobytes()


class Hub:
    """What all viewers share: the service, and a feed for each mosaic that somebody follows."""

    def __init__(self, view: LiveView) -> None:
        self.view = view
        # Viewers hold their feed: a mosaic that nobody follows is not kept alive from here.
        self._feeds: WeakValueDictionary[str, Feed] = WeakValueDictionary()
        self._generations = count(1)

    def feed(self, scan: str) -> Feed | None:
        """Return the feed of a scan's mosaic, None while it has none."""
        mosaic = self.view.mosaic(scan)
        if mosaic is None:
            return None
        feed = self._feeds.get(scan)
        if feed is None or feed.mosaic is not mosaic:
            feed = self._feeds[scan] = Feed(mosaic, next(self._generations))
        return feed

    def state(self, wanted: str | None) -> tuple[Feed | None, bytes]:
        """Return the feed to follow and the `state` message, JSON.

        Args:
            wanted: name of a scan, or None for the current (or else the latest) one.
        """
        status, scans = self.view.status(), self.view.scans()
        name = wanted or status.get("current_scan") or (scans[0]["scan"] if scans else None)
        feed = self.feed(name) if name else None
        message = {
            "type": "state",
            "channels": list(Channel),
            "status": status,
            "scans": scans,
            "name": name,
            "scan": self.view.scan(name) if name else None,
            "mosaic": _describe(feed) if feed else None,
        }
        return feed, msgspec.json.encode(message)


def _describe(feed: Feed) -> dict[str, Any]:
    mosaic = feed.mosaic
    return {
        "generation": feed.generation,
        "block_px": mosaic.block_px,
        "object_pixel_m": mosaic.object_pixel_m,
        "bounds": mosaic.bounds(),
    }


class Viewer:
    """One browser: what it wants to see, and what it already has."""

    def __init__(self, socket: WebSocket, hub: Hub) -> None:
        self._socket = socket
        self._hub = hub
        self._wanted: str | None = None
        self._wish = asyncio.Event()
        self._feed: Feed | None = None
        self._version = 0
        self._told = b""
        self._told_at_s = 0.0

    async def listen(self) -> int | None:
        """Follow the viewer's wishes until it goes away, or until it sends something else: its close code."""
        while (message := await self._socket.receive())["type"] == "websocket.receive":
            try:
                wish = msgspec.json.decode(message.get("text") or b"", type=Wish)
            except msgspec.DecodeError:
                return _UNSUPPORTED_DATA
            self._wanted = wish.scan
            self._wish.set()
        return None

    async def show(self) -> None:
        """Keep the viewer up to date until it goes away."""
        try:
            while True:
                await self._tell_state()
                await self._show_changes()
                await self._pause()
        except WebSocketDisconnect:
            return

    async def _tell_state(self) -> None:
        feed, state = self._hub.state(self._wanted)
        if feed is not self._feed:
            self._feed, self._version = feed, 0
        now_s = asyncio.get_running_loop().time()
        if state != self._told or now_s - self._told_at_s > _HEARTBEAT_S:
            self._told, self._told_at_s = state, now_s
            await self._socket.send_text(state.decode())

    async def _show_changes(self) -> None:
        feed = self._feed
        if feed is None:
            return
        version, changed = feed.changed_since(self._version)
        now_s = asyncio.get_running_loop().time
        turn_ends_s = now_s() + _PERIOD_S
        for by, bx in changed:
            await self._socket.send_bytes(feed.message(by, bx))
            if now_s() > turn_ends_s:
                await self._tell_state()
                turn_ends_s = now_s() + _PERIOD_S
            if feed is not self._feed:
                return
        self._version = version

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._wish.wait(), _PERIOD_S)
        except TimeoutError:
            return
        self._wish.clear()


async def serve_viewer(socket: WebSocket, hub: Hub) -> None:
    """Serve one viewer from the handshake to its end."""
    await socket.accept()
    viewer = Viewer(socket, hub)
    listening = asyncio.create_task(viewer.listen())
    showing = asyncio.create_task(viewer.show())
    try:
        await asyncio.wait([listening, showing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        listening.cancel()
        showing.cancel()
    code, failure = await asyncio.gather(listening, showing, return_exceptions=True)
    if isinstance(code, int):
        with suppress(WebSocketDisconnect):
            await socket.close(code)
    for outcome in (code, failure):
        if isinstance(outcome, Exception):
            raise outcome
