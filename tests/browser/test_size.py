"""Mosaics of 8192 × 8192 and of 200 × 200 pixels: what the browser is sent, and how smoothly it moves."""

from __future__ import annotations

import time

import numpy as np
import pytest

from service.messages import Tiles
from service.mosaic import Mosaic

pytestmark = pytest.mark.browser

PAGE = "window.ptycholive"
PATIENCE_S = 240  # the machine may be busy
PIXEL_M = 1e-8
TILE = 512
SIDE = 16  # tiles of the large mosaic each way
ALL_BYTES = 10 * (SIDE * TILE) ** 2  # five float16 channels

MOVE = """
    const [seconds, told] = arguments, page = window.ptycholive;
    const from = page.shown.place, begun = performance.now();
    let frames = 0;
    const step = () => {
      const at = (performance.now() - begun) / 1000;
      if (at > seconds) return told(frames / at);
      frames += 1;
      const zoom = from.zoom * 2 ** (2 * Math.sin(at));
      const xUm = from.xUm * (1 + 0.2 * Math.sin(2 * at));
      page.follow({ ...page.shown, contrast: null, place: { ...from, xUm, zoom } });
      requestAnimationFrame(step);
    };
    step();"""


def numbered(mosaic: Mosaic, row: int, columns: int, tile: int = TILE) -> None:
    """Add a row of tiles that touch; the amplitude of each is its number, its phase a slow ramp."""
    numbers = np.arange(1, columns + 1, dtype=np.float32) + columns * row
    corners = tile * np.stack([np.full(columns, row), np.arange(columns)], axis=1)
    ramp = np.linspace(-1, 1, tile, dtype=np.float32) * np.ones((tile, 1), np.float32)
    amplitude = numbers[:, None, None] * np.ones((tile, tile), np.float32)
    cos, sin = (np.broadcast_to(part, amplitude.shape) for part in (np.cos(ramp), np.sin(ramp)))
    indices = np.arange(columns) + columns * row
    positions_m = (corners + tile // 2) * PIXEL_M
    mosaic.add(Tiles("", indices, positions_m, amplitude, cos, sin, np.zeros(columns, np.int64)))


@pytest.fixture(scope="module")
def huge() -> Mosaic:
    mosaic = Mosaic(PIXEL_M, np.ones((TILE, TILE), np.float32))
    for row in range(SIDE):
        numbered(mosaic, row, SIDE)
    return mosaic


def moved_hz(page) -> float:
    """Drawn frames a second while the picture is moved and zoomed."""
    page.browser.set_script_timeout(PATIENCE_S)
    return page.browser.execute_async_script(MOVE, 4)


def opened_s(page, url: str, blocks: int) -> float:
    """Open the page and return after how many seconds it has all blocks that it shows."""
    begun = time.monotonic()
    page.open(url)
    page.until(lambda: page.ask(f"{PAGE}?.blocks") == blocks, PATIENCE_S)
    return time.monotonic() - begun


@pytest.mark.long
def test_a_mosaic_of_8192_pixels_costs_what_the_screen_shows(page, server, view, huge):
    view.show("huge", huge)
    shown_s = opened_s(page, f"{server.url}/#channel=amplitude", blocks=16)
    assert page.ask(f"{PAGE}.level") == 4
    opened_bytes = page.ask(f"{PAGE}.receivedBytes")
    assert opened_bytes < 0.03 * ALL_BYTES
    hz = moved_hz(page)
    print(f"8192²: shown in {shown_s:.1f} s by {opened_bytes / 1e6:.1f} MB, {hz:.0f} frames/s while it moves")
    near = "{ ...window.ptycholive.shown, contrast: null, place: { yUm: 40, xUm: 40, zoom: 150 } }"
    page.ask(f"{PAGE}.follow({near})")
    page.until(lambda: page.ask(f"{PAGE}.pixelAt(4000, 4000)?.level") == 0, PATIENCE_S)
    row, column = 4000 // TILE, 4000 // TILE
    assert page.ask(f"{PAGE}.pixelAt(4000, 4000).amplitude") == SIDE * row + column + 1
    page.until(lambda: page.ask(f"{PAGE}.held") < 300, PATIENCE_S)
    all_bytes = page.ask(f"{PAGE}.receivedBytes")
    assert all_bytes < 0.25 * ALL_BYTES
    numbered(huge, row, SIDE)  # one row of tiles changes: what is in sight of it comes, and the overview
    page.until(lambda: page.ask(f"{PAGE}.receivedBytes") > all_bytes + 1e5, PATIENCE_S)
    print(f"8192²: {all_bytes / 1e6:.1f} MB with a tour and a close look")


def test_a_mosaic_of_200_pixels_fills_the_stage(page, server, view):
    mosaic = Mosaic(PIXEL_M, np.ones((50, 50), np.float32))
    for row in range(4):
        numbered(mosaic, row, 4, tile=50)
    view.show("small", mosaic)
    shown_s = opened_s(page, f"{server.url}/#channel=amplitude", blocks=len(mosaic.changed_since(0)))
    assert page.ask(f"{PAGE}.level") == 0
    assert page.ask(f"{PAGE}.state.viewport.scale") > 2
    assert page.ask(f"{PAGE}.pixelAt(120, 60).amplitude") == 4 * 2 + 1 + 1
    received_bytes = page.ask(f"{PAGE}.receivedBytes")
    assert received_bytes < 4e6
    print(f"200²: shown in {shown_s:.1f} s by {received_bytes / 1e6:.1f} MB")
    page.keep("small")
