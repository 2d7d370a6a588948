"""Tiles turned to fit those before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.aligned import add_aligned
from service.messages import Tiles
from service.mosaic import Mosaic

PIXEL_M, TILE, N = 1e-8, 16, 12
WEIGHT = np.outer(*[np.hanning(TILE + 2)[1:-1]] * 2).astype(np.float32)


@pytest.fixture
def tiles():
    """Tiles of one smooth object, each with an absolute phase of its own."""
    rng = np.random.default_rng(7)
    centres_px = np.stack([np.zeros(N), 4.25 * np.arange(N)], axis=1)
    y, x = np.mgrid[:TILE, :TILE] - TILE // 2
    phase_rad = np.stack([0.1 * (x + column) + 0.02 * y for _, column in centres_px])
    phase_rad += rng.uniform(-np.pi, np.pi, (N, 1, 1))
    cos, sin = (part(phase_rad).astype(np.float32) for part in (np.cos, np.sin))
    times = np.zeros(N, np.int64)
    return Tiles("s", np.arange(N), centres_px * PIXEL_M, np.ones_like(cos), cos, sin, times)


def test_tiles_of_unknown_absolute_phase_come_to_agree(tiles):
    plain, aligned = Mosaic(PIXEL_M, WEIGHT), Mosaic(PIXEL_M, WEIGHT)
    plain.add(tiles)
    _, went = add_aligned(aligned, tiles)
    np.testing.assert_array_equal(went.stitched, np.arange(N))
    assert plain.agreement_mean() < 0.8
    assert aligned.agreement_mean() > 0.99
    np.testing.assert_array_equal(plain.image("coverage") > 0, aligned.image("coverage") > 0)


def test_what_is_returned_is_what_lies_in_the_mosaic(tiles):
    aligned, again = Mosaic(PIXEL_M, WEIGHT), Mosaic(PIXEL_M, WEIGHT)
    turned, _ = add_aligned(aligned, tiles)
    again.add(turned)
    np.testing.assert_allclose(again.object(), aligned.object(), atol=1e-5)
    np.testing.assert_allclose(np.hypot(turned.cos, turned.sin), 1, atol=1e-5)
    np.testing.assert_array_equal(turned.cos[0], tiles.cos[0])


def test_a_tile_that_is_no_number_or_nowhere_is_refused_and_spoils_no_other(tiles):
    cos, positions_m = tiles.cos.copy(), tiles.positions_m.copy()
    cos[3, 2, 2], positions_m[5, 0], positions_m[6, 1] = np.nan, np.nan, 1e300
    aligned = Mosaic(PIXEL_M, WEIGHT)
    _, went = add_aligned(aligned, replace(tiles, cos=cos, positions_m=positions_m))
    assert (went.not_finite.tolist(), went.outside.tolist()) == ([3], [5, 6])
    assert len(went.stitched) == N - 3
    assert np.isfinite(aligned.object()).all()


def test_no_tiles_change_nothing(tiles):
    aligned = Mosaic(PIXEL_M, WEIGHT)
    _, went = add_aligned(aligned, tiles.only(np.zeros(N, bool)))
    assert went.stitched.size == 0
    assert aligned.bounds() == (0, 0, 0, 0)
