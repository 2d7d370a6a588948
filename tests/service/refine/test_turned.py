"""The mosaic's tiles turned to fit each other, beside the mosaic as it was."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from model.gauge import fitting_turn
from service.messages import Tiles
from service.mosaic import Mosaic
from service.refine.turned import TurnedMosaic, turnable

PIXEL_M = 1e-8
TILE = 16
STEP_PX = 4.3
LINES = 7
INNER = (0, 0, 26, 26)
TILE_BYTES = 2 * TILE * TILE


def phase_of(y, x):
    return 0.9 * np.sin(0.15 * y) * np.cos(0.11 * x) + 0.02 * y


def known_tiles(angles_rad):
    """Return tiles of a known object at positions between pixels, each turned by an angle of its own."""
    grid = np.arange(LINES) * STEP_PX
    centres = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    pixels = np.arange(TILE) - TILE // 2
    phases = np.stack([phase_of((y + pixels)[:, None], x + pixels) for y, x in centres])
    phases += angles_rad[:, None, None]
    count = len(centres)
    cos, sin = (part(phases).astype(np.float32) for part in (np.cos, np.sin))
    flat = np.full_like(cos, 0.8)
    return Tiles("s", np.arange(count), centres * PIXEL_M, flat, cos, sin, np.zeros(count, np.int64))


@pytest.fixture
def tiles():
    return known_tiles(np.random.default_rng(3).normal(0, 0.5, LINES**2))


@pytest.fixture
def mosaic(tiles):
    found = Mosaic(PIXEL_M, np.outer(*[np.hanning(TILE + 2)[1:-1]] * 2).astype(np.float32))
    found.add(tiles)
    return found


def turned(mosaic, tiles):
    start = TurnedMosaic(mosaic)
    for tile in turnable(mosaic, tiles):
        start.add(tile)
    while start.step():
        pass
    return start


def error_rad(transmission):
    """Return the phase's RMS error on the inner pixels, one angle removed."""
    y, x = np.indices(transmission.shape)
    left = transmission / np.abs(transmission) * np.exp(-1j * phase_of(y, x))
    return float(np.sqrt(np.mean(np.angle(left * np.conj(left.mean())) ** 2)))


def test_turned_tiles_of_a_known_object_are_nearer_to_it_than_the_running_mosaic(mosaic, tiles):
    start = turned(mosaic, tiles)
    assert error_rad(start.object(INNER)) < 0.6 * error_rad(mosaic.object(INNER))
    assert (start.turned, start.forgotten) == (LINES**2, 0)


def test_turned_over_and_over_the_tiles_come_back_with_one_common_angle(mosaic, tiles, monkeypatch):
    monkeypatch.setattr("service.refine.turned.ROUNDS", 400)
    monkeypatch.setattr("service.refine.turned._SETTLED", 1e-3)
    start = turned(mosaic, tiles)
    assert error_rad(start.object(INNER)) < 0.1 * error_rad(mosaic.object(INNER))


def test_the_mosaic_on_show_stays_as_it_is(mosaic, tiles):
    before = mosaic.state()
    turned(mosaic, tiles)
    after = mosaic.state()
    assert (after.version, after.bounds) == (before.version, before.bounds)
    for key, sums in before.sums.items():
        np.testing.assert_array_equal(after.sums[key], sums)


def test_before_any_tile_is_turned_the_start_is_the_mosaic(mosaic):
    np.testing.assert_array_equal(TurnedMosaic(mosaic).object(INNER), mosaic.object(INNER))


def test_amplitudes_are_those_of_the_mosaic(mosaic, tiles):
    found = turned(mosaic, tiles).object(INNER)
    np.testing.assert_allclose(np.abs(found), mosaic.image("amplitude", INNER), rtol=1e-5)


def test_a_tile_with_none_around_it_is_not_turned(mosaic, tiles):
    far = replace(
        tiles,
        indices=tiles.indices[:1],
        positions_m=np.array([[700.4, 0.2]]) * PIXEL_M,
        **{name: getattr(tiles, name)[:1] for name in ("amplitude", "cos", "sin", "received_ns")},
    )
    mosaic.add(far)
    box = (692, -8, 710, 10)
    np.testing.assert_allclose(turned(mosaic, far).object(box), mosaic.object(box), rtol=1e-6)


def test_tiles_that_were_there_before_stay_and_others_are_turned_to_fit_them():
    angles = np.zeros(LINES**2)
    angles[24:] = 1.2
    tiles = known_tiles(angles)
    mosaic = Mosaic(PIXEL_M, np.outer(*[np.hanning(TILE + 2)[1:-1]] * 2).astype(np.float32))
    mosaic.add(tiles)
    late = slice(24, None)
    names = ("indices", "positions_m", "amplitude", "cos", "sin", "received_ns")
    start = turned(mosaic, replace(tiles, **{name: getattr(tiles, name)[late] for name in names}))
    assert error_rad(start.object(INNER)) < 0.6 * error_rad(mosaic.object(INNER))
    assert start.turned == LINES**2 - 24


def test_tiles_that_do_not_fit_in_are_forgotten_the_oldest_first(mosaic, tiles):
    start = TurnedMosaic(mosaic)
    for tile in turnable(mosaic, tiles):
        start.add(tile)
        start.fit_in(10 * TILE_BYTES)
    assert start.forgotten == LINES**2 - 10
    while start.step():
        pass
    assert start.turned == 10


def test_a_kept_tile_takes_two_bytes_a_pixel_and_holds_no_other(mosaic, tiles):
    kept = turnable(mosaic, tiles)
    assert {tile.phase.nbytes for tile in kept} == {TILE_BYTES}
    assert all(tile.phase.base is None for tile in kept)


def test_one_thread_may_add_while_another_turns(mosaic, tiles):
    start, kept = TurnedMosaic(mosaic), turnable(mosaic, tiles)
    adding = threading.Thread(target=lambda: [start.add(tile) for tile in kept])
    adding.start()
    while start.step() or adding.is_alive():
        pass
    adding.join()
    while start.step():
        pass
    assert start.turned == len(kept)


def test_a_tile_is_turned_by_the_angle_between_it_and_the_others():
    tile = np.full((4, 4), 0.5 + 0.5j, np.complex64)
    assert np.angle(fitting_turn(tile, 7 * tile * np.exp(-0.8j))) == pytest.approx(-0.8)
    assert fitting_turn(tile, np.zeros_like(tile)) == 1
