"""The plane of the refined object beside the mosaic it came from."""

import numpy as np
import pytest

from service.messages import Tiles
from service.mosaic import Mosaic
from service.refine.canvas import Canvas
from service.refine.picture import as_mosaic
from service.refine.plane import joined
from service.refine.turned import TurnedMosaic

PIXEL_M = 1e-8
TILE = 16


def tile(y, x, amplitude, phase_rad=0.3):
    values = np.full((1, TILE, TILE), amplitude, np.float32)
    cos, sin = (np.full_like(values, part(phase_rad)) for part in (np.cos, np.sin))
    position_m = np.array([[y, x]]) * PIXEL_M
    return Tiles("s", np.zeros(1, int), position_m, values, cos, sin, np.zeros(1, np.int64))


@pytest.fixture
def mosaic():
    weight = np.outer(*[np.hanning(TILE + 2)[1:-1]] * 2).astype(np.float32)
    return Mosaic(PIXEL_M, weight)


def test_a_frame_finds_the_mosaic_under_its_tile_and_emptiness_around_it(mosaic):
    mosaic.add(tile(0, 0, 0.5))
    canvas = Canvas(TurnedMosaic(mosaic))
    canvas.take_in((-16, -16, 16, 16))
    patch = canvas.patch((-16, -16, 16, 16))
    np.testing.assert_allclose(patch[8:24, 8:24], 0.5 * np.exp(0.3j), rtol=1e-5)
    patch[8:24, 8:24] = 1
    assert (patch == 1).all()


def test_what_has_been_refined_stays_when_the_mosaic_grows(mosaic):
    mosaic.add(tile(0, 0, 0.5))
    canvas = Canvas(TurnedMosaic(mosaic))
    canvas.take_in((-8, -8, 8, 8))
    canvas.patch((-8, -8, 8, 8))[...] = 2j
    mosaic.add(tile(0, 8, 0.7))
    mosaic.add(tile(700, -700, 0.7))
    for box in ((-8, 0, 8, 16), (692, -708, 708, -692)):
        canvas.take_in(box)
    shown = canvas.shown((-8, -8, 8, 16))
    assert (shown[:, :16] == 2j).all()
    np.testing.assert_allclose(shown[:, 16:], 0.7 * np.exp(0.3j), rtol=1e-5)


def test_where_no_frame_came_in_the_mosaic_is_shown(mosaic):
    mosaic.add(tile(0, 0, 0.5))
    canvas = Canvas(TurnedMosaic(mosaic))
    np.testing.assert_array_equal(canvas.shown(mosaic.bounds()), mosaic.object())
    canvas.take_in((-8, -8, 8, 8))
    mosaic.add(tile(5000, 0, 0.7))
    np.testing.assert_array_equal(canvas.shown((4992, -8, 5008, 8)), mosaic.object((4992, -8, 5008, 8)))


@pytest.mark.parametrize("pixel_m", [1e-8, 3.017e-8, 1 / 3 * 1e-9])
def test_an_object_as_a_mosaic_lies_on_the_same_pixels(pixel_m):
    dice = np.random.default_rng(0)
    bounds = (-211, 13, -211 + 150, 13 + 301)
    transmission = (dice.normal(size=(150, 301)) + 1j * dice.normal(size=(150, 301))).astype(np.complex64)
    coverage = 7 * dice.random((150, 301), np.float32)
    coverage[:40] = 0
    mosaic = as_mosaic(transmission, coverage, bounds, pixel_m)
    assert (mosaic.bounds(), mosaic.object_pixel_m) == (bounds, pixel_m)
    assert mosaic.origin_m == (-211 * pixel_m, 13 * pixel_m)
    np.testing.assert_array_equal(mosaic.image("coverage") > 0, coverage > 0)
    np.testing.assert_allclose(mosaic.object()[40:], transmission[40:], rtol=1e-4, atol=1e-5)
    assert not mosaic.object()[:40].any()


def test_boxes_are_joined_to_the_smallest_around_both():
    assert joined(None, (1, 2, 3, 4)) == (1, 2, 3, 4)
    assert joined((0, 5, 2, 9), (1, 2, 3, 4)) == (0, 2, 3, 9)
