"""What a viewer is sent, through a real WebSocket."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

CHANNELS = ("amplitude", "phase", "agreement", "coverage", "confidence")
HEADER = struct.Struct("<4sHHIiiI")


class Watcher:
    """A viewer as the page is one: keeps the last state, and the blocks of the last generation."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.state: dict[str, Any] = {}
        self.blocks: dict[tuple[int, int], np.ndarray] = {}
        self.coarse: dict[int, dict[tuple[int, int], np.ndarray]] = {}
        self.received_blocks = 0
        self.paces: list[float] = []

    def take(self, timeout_s: float) -> None:
        message = self.connection.recv(timeout_s)
        if isinstance(message, str):
            told = json.loads(message)
            if told["type"] == "pace":
                self.paces.append(told["behind_s"])
                return
            before, self.state = self.state, told
            if generation(before) != generation(self.state):
                self.blocks.clear()
            return
        magic, layout, side, number, by, bx, level = HEADER.unpack_from(message)
        assert (magic, layout, number) == (b"PTLB", 3, generation(self.state))
        planes = np.frombuffer(message, "<f2", offset=HEADER.size)
        blocks = self.blocks if level == 0 else self.coarse.setdefault(level, {})
        blocks[by, bx] = planes.reshape(len(CHANNELS), side, side)
        self.received_blocks += 1

    def wish(self, **wish: Any) -> None:
        """Say what is wanted, and take all of it."""
        self.connection.send(json.dumps(wish))
        self.watch()

    def watch(self, quiet_s: float = 0.3) -> None:
        """Take what comes until nothing has come for a while."""
        while True:
            try:
                self.take(quiet_s)
            except TimeoutError:
                return

    def picture(self, channel: str) -> np.ndarray:
        """Put the blocks together within the bounds that the state tells."""
        y0, x0, y1, x1 = self.state["mosaic"]["bounds"]
        side = self.state["mosaic"]["block_px"]
        canvas = np.zeros((y1 - y0, x1 - x0), np.float32)
        for (by, bx), planes in self.blocks.items():
            top, left = by * side - y0, bx * side - x0
            rows, columns = np.arange(top, top + side), np.arange(left, left + side)
            rows_in, columns_in = (rows >= 0) & (rows < y1 - y0), (columns >= 0) & (columns < x1 - x0)
            inside = planes[CHANNELS.index(channel)][np.ix_(rows_in, columns_in)]
            canvas[np.ix_(rows[rows_in], columns[columns_in])] = inside
        return canvas


def generation(state: dict[str, Any]) -> int | None:
    return (state.get("mosaic") or {}).get("generation")


@contextmanager
def watching(url: str, **options: Any):
    with connect(url.replace("http", "ws") + "/api/live", **options) as connection:
        yield Watcher(connection)


def npy(url: str, scan: str, channel: str) -> np.ndarray:
    answer = httpx.get(f"{url}/api/scans/{scan}/mosaic", params={"channel": channel, "format": "npy"})
    return np.load(io.BytesIO(answer.content))


def assert_same_to_float16(live: np.ndarray, exact: np.ndarray) -> None:
    """Ten bits of mantissa; below 6·10⁻⁵ the steps are absolute."""
    np.testing.assert_allclose(live, exact, rtol=2**-11 * 1.01, atol=2**-25 * 1.01)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.integers(1, 60), min_size=1, max_size=3), turn_rad=st.floats(-3.2, 3.2))
def test_pixels_of_the_live_mosaic_are_those_of_the_api(serve, view, batches, turn_rad):
    view.begin("star")
    url = serve().url
    with watching(url) as watcher:
        for count in batches:
            view.stitch(count, turn_rad)
            watcher.take(2)
        watcher.watch()
        for channel in CHANNELS:
            assert_same_to_float16(watcher.picture(channel), npy(url, "star", channel))


def test_only_blocks_that_changed_are_sent(serve, view):
    with watching(serve().url) as watcher:
        watcher.watch()
        assert watcher.received_blocks == len(watcher.blocks) == len(view.mosaic("star").changed_since(0))
        version = view.mosaic("star").version
        view.stitch(1)
        watcher.watch()
        changed = view.mosaic("star").changed_since(version)
        assert watcher.received_blocks - len(changed) <= len(watcher.blocks)
        assert len(changed) < len(watcher.blocks)


def test_a_reload_gets_the_whole_mosaic(serve, view):
    url = serve().url
    with watching(url) as first:
        first.watch()
    with watching(url) as second:
        second.watch()
    assert second.blocks.keys() == first.blocks.keys()


def test_a_new_scan_is_another_generation(serve, view):
    with watching(serve().url) as watcher:
        watcher.watch()
        before = generation(watcher.state)
        view.begin("next")
        view.stitch(3)
        watcher.watch()
        assert generation(watcher.state) != before
        assert watcher.state["name"] == "next"
        assert watcher.blocks.keys() == set(view.mosaic("next").changed_since(0))


def test_the_same_name_measured_again_is_another_generation(serve, view):
    with watching(serve().url) as watcher:
        watcher.watch()
        before = generation(watcher.state)
        view.begin("star")
        view.stitch(3)
        watcher.watch()
        assert generation(watcher.state) != before


def test_a_viewer_can_follow_a_finished_scan_and_come_back(serve, view):
    view.finish()
    view.begin("next")
    with watching(serve().url) as watcher:
        watcher.watch()
        assert watcher.state["name"] == "next"
        watcher.connection.send('{"scan": "star"}')
        watcher.watch()
        assert watcher.state["name"] == "star"
        assert len(watcher.blocks) == len(view.mosaic("star").changed_since(0))
        watcher.connection.send('{"scan": null}')
        watcher.watch()
        assert watcher.state["name"] == "next"


def test_the_state_tells_progress_ledger_and_rates(serve, view):
    with watching(serve().url) as watcher:
        watcher.watch()
        view.stitch(7)
        watcher.watch()
        assert watcher.state["scan"] == view.scan("star")
        assert watcher.state["status"] == view.status()
        assert watcher.state["channels"] == list(CHANNELS)


def test_a_quiet_service_still_gives_a_sign_of_life(serve):
    with watching(serve().url) as watcher:
        watcher.watch()
        watcher.take(timeout_s=3)


def test_a_slow_viewer_skips_what_is_overtaken(serve, view, monkeypatch):
    """Without reading, a viewer sees 100 changes of the mosaic; it is sent the last, not all of them."""
    monkeypatch.setattr("service.web.live._BEHIND_S", 0.2)
    url = serve().url
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        small.connect(address(url))
        with watching(url, sock=small, max_queue=1) as watcher:
            changes = 0
            for _ in range(100):
                version = view.mosaic("star").version
                view.stitch(1)
                changes += len(view.mosaic("star").changed_since(version))
                time.sleep(0.02)
            watcher.watch(0.8)
            for _ in range(20):
                if watcher.paces[-1:] != [0]:
                    watcher.take(timeout_s=10)
            assert max(watcher.paces) > 0.2  # it is told that it lags, and when it does no more
            assert watcher.paces[-1] == 0
            assert watcher.received_blocks < changes / 2
            assert_same_to_float16(watcher.picture("phase"), npy(url, "star", "phase"))


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def test_a_viewer_that_does_not_read_does_not_hold_up_the_stop(serve, view):
    view.stitch(400)
    server = serve()
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(address(server.url))
        lines = (
            "GET /api/live HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        small.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        time.sleep(0.5)
        started_s = time.monotonic()
        server.stop()
        assert time.monotonic() - started_s < 3


FIVE_WINDOWS = json.dumps({"windows": 5 * [{"level": 0, "rows": [0, 1], "columns": [0, 1]}]})
NO_LEVEL = json.dumps({"windows": [{"level": 8, "rows": [0, 1], "columns": [0, 1]}]})


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", '{"scan": 3}', '{"scn": "star"}', b"\x00\x01", '{"windows": 1}', FIVE_WINDOWS, NO_LEVEL],
)
def test_a_message_that_is_no_wish_ends_the_connection(serve, message):
    with watching(serve().url) as watcher:
        watcher.connection.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            watcher.watch()
        assert closed.value.rcvd.code == 1003


def test_a_large_message_ends_the_connection(serve):
    with watching(serve().url) as watcher:
        watcher.connection.send(json.dumps({"scan": "s" * 100_000}))
        with pytest.raises(ConnectionClosed) as closed:
            watcher.watch()
        assert closed.value.rcvd.code == 1009


def test_an_unknown_scan_is_followed_as_an_empty_one(serve):
    with watching(serve().url) as watcher:
        watcher.connection.send('{"scan": "moon"}')
        watcher.watch()
        assert (watcher.state["name"], watcher.state["scan"], watcher.state["mosaic"]) == ("moon", None, None)


def test_a_foreign_page_cannot_watch(serve):
    url = serve().url
    with pytest.raises(InvalidStatus) as refused, watching(url, origin="http://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    with watching(url, origin=url) as watcher:
        watcher.take(2)


def test_the_live_channel_asks_for_the_token(serve):
    url = serve(token="secret").url
    with pytest.raises(InvalidStatus) as refused, watching(url):
        pass
    assert refused.value.response.status_code == 401
    with watching(url, additional_headers={"authorization": "Bearer secret"}) as watcher:
        watcher.take(2)
    cookie = httpx.get(url, params={"token": "secret"}).headers["set-cookie"].partition(";")[0]
    with watching(url, additional_headers={"cookie": cookie}) as watcher:
        watcher.take(2)
