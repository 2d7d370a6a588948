"""What changed, for the viewer: `/api/live`.

The server sends text messages, JSON, and binary messages, one block each (`service.web.block_message`).
Text has a `"type"`: `"state"` says how service and scan stand, and `"pace"` how many seconds ago this viewer
last had all that it wanted to see, in `behind_s`; it comes only while that is more than three, and once more
when the viewer has caught up, with 0.

The viewer sends what it wants to see whenever that changes, as JSON of up to 1024 bytes:

    {"scan": name, or null for the current one,
     "refined": true for the object as idle time has refined it, once there is one,
     "windows": [{"level": 0 … 7, "rows": [from, to], "columns": [from, to]}, …] in blocks, up to 4, the most
                urgent first; null for all blocks of level 0; [] for none,
     "path": true for `path_px` in the state: y, x of the last frames in pixels of the mosaic, oldest first}

A key that is absent is null or false. Each wish says all: a block that lies in none of its windows is
forgotten on both sides, and sent anew when it is wanted again. The others are sent once, and again when
they have changed, as fast as the viewer reads: a slow viewer sees fewer updates, and nothing queues for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from service.web.feed import Feed
from service.web.hub import Hub, Wish
from service.web.levels import Key, LevelKey, Window, above
from service.web.pace import LONGEST_PERIOD_S, PERIOD_S

MAX_CLIENT_MESSAGE_BYTES = 1024

_MAX_WINDOWS = 4
_AT_ONCE = 8  # blocks that are prepared together: few enough that another wish is heard at once
_HEARTBEAT_S = 2.0
_BEHIND_S = LONGEST_PERIOD_S + 1
_UNSUPPORTED_DATA = 1003


class Viewer:
    """One browser: what it wants to see, and what it already has."""

    def __init__(self, socket: WebSocket, hub: Hub) -> None:
        self._socket = socket
        self._hub = hub
        self._wish = Wish()
        self._wished = asyncio.Event()
        self._feed: Feed | None = None
        self._version = 0
        self._held: set[LevelKey] = set()  # blocks that the viewer has as they were at the version
        self._told = b""
        self._told_at_s = 0.0
        self._complete_at_s = 0.0  # when it last had all that it wanted
        self._is_behind = False

    async def listen(self) -> int | None:
        """Follow the viewer's wishes until it goes away, or until it sends something else: its close code."""
        while (message := await self._socket.receive())["type"] == "websocket.receive":
            try:
                wish = msgspec.json.decode(message.get("text") or b"", type=Wish)
            except msgspec.DecodeError:
                return _UNSUPPORTED_DATA
            if len(wish.windows or ()) > _MAX_WINDOWS:
                return _UNSUPPORTED_DATA
            self._wish = wish
            self._hub.forget()
            self._held = {key for key in self._held if _is_wanted(key, wish.windows)}
            self._wished.set()
        return None

    async def show(self) -> None:
        """Keep the viewer up to date until it goes away."""
        self._complete_at_s = asyncio.get_running_loop().time()
        try:
            while True:
                self._wished.clear()
                await self._tell_state()
                if await self._show_changes():
                    self._complete_at_s = asyncio.get_running_loop().time()
                    if self._is_behind:
                        await self._tell_pace()
                await self._pause()
        except WebSocketDisconnect:
            return

    async def _tell_state(self) -> None:
        feed, state = await self._hub.state(self._wish)
        if feed is not self._feed:
            self._feed, self._version, self._held = feed, 0, set()
        now_s = asyncio.get_running_loop().time()
        if state != self._told or now_s - self._told_at_s > _HEARTBEAT_S:
            self._told, self._told_at_s = state, now_s
            await self._socket.send_text(state.decode())
        await self._tell_pace()

    async def _tell_pace(self) -> None:
        behind_s = asyncio.get_running_loop().time() - self._complete_at_s
        was_behind, self._is_behind = self._is_behind, behind_s > _BEHIND_S
        if self._is_behind or was_behind:
            told_s = round(behind_s, 1) if self._is_behind else 0
            await self._socket.send_text(f'{{"type": "pace", "behind_s": {told_s}}}')

    async def _show_changes(self) -> bool:
        """Send what is wanted and not held, until there is another wish or feed; return whether it is all."""
        feed = self._feed
        if feed is None:
            return True
        feed.pause_s = self._hub.pause_s
        self._version, changed = feed.changed_since(self._version)
        self._held -= _over(changed, self._wish.windows)
        now_s = asyncio.get_running_loop().time
        turn_ends_s = now_s() + PERIOD_S
        missing = self._missing(feed)
        for start in range(0, len(missing), _AT_ONCE):
            keys = missing[start : start + _AT_ONCE]
            for key, message in zip(keys, await self._hub.messages(feed, keys), strict=True):
                if self._wished.is_set():
                    return False
                self._held.add(key)
                await self._socket.send_bytes(message)
                if now_s() > turn_ends_s:
                    await self._tell_state()
                    turn_ends_s = now_s() + PERIOD_S
                if feed is not self._feed:
                    return False
        return True

    def _missing(self, feed: Feed) -> list[LevelKey]:
        windows = self._wish.windows
        wanted = feed.everything() if windows is None else [k for each in windows for k in feed.within(each)]
        return [key for key in dict.fromkeys(wanted) if key not in self._held]

    async def _pause(self) -> None:
        self._hub.count_cost()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wished.wait(), self._hub.period_s)


def _is_wanted(key: LevelKey, windows: tuple[Window, ...] | None) -> bool:
    return key[0] == 0 if windows is None else any(window.holds(key) for window in windows)


def _over(changed: list[Key], windows: tuple[Window, ...] | None) -> set[LevelKey]:
    """Return the blocks of the wanted levels that lie over blocks of the mosaic."""
    levels = {0} if windows is None else {window.level for window in windows}
    return {key for level in levels for key in above(changed, level)}


async def serve_viewer(socket: WebSocket, hub: Hub) -> None:
    """Serve one viewer from the handshake to its end."""
    await socket.accept()
    viewer = Viewer(socket, hub)
    hub.viewers += 1
    listening = asyncio.create_task(viewer.listen())
    showing = asyncio.create_task(viewer.show())
    try:
        await asyncio.wait([listening, showing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.viewers -= 1
        listening.cancel()
        showing.cancel()
    code, failure = await asyncio.gather(listening, showing, return_exceptions=True)
    if isinstance(code, int):
        with suppress(WebSocketDisconnect):
            await socket.close(code)
    for outcome in (code, failure):
        if isinstance(outcome, Exception):
            raise outcome
