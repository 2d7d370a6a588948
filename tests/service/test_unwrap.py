"""The phase without its jumps."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.restoration import unwrap_phase

from service.messages import Tiles
from service.mosaic import Mosaic
from service.unwrap import TURN_RAD, unwrap, unwrapped

EDGE = 96
Y, X = np.mgrid[:EDGE, :EDGE].astype(np.float32)
DISC = np.hypot(Y - 48, X - 48) < 44
HILL = 14 * np.exp(-(np.square(Y - 40) + np.square(X - 52)) / 2 / 18**2) + 0.2 * X


def wrapped(phase_rad):
    return np.angle(np.exp(1j * phase_rad)).astype(np.float32)


def off(found, truth):
    """Return the difference but for whole turns common to all pixels."""
    difference = found - truth
    return difference - TURN_RAD * np.round(np.median(difference) / TURN_RAD)


def test_a_hill_of_several_turns_comes_back_whole():
    found = unwrap(wrapped(HILL), DISC)
    np.testing.assert_allclose(off(found[DISC], HILL[DISC]), 0, atol=1e-4)
    assert np.isnan(found[~DISC]).all()


def test_noise_is_unwrapped_as_the_published_method_does():
    rng = np.random.default_rng(4)
    noisy = wrapped(HILL + 0.5 * rng.standard_normal(HILL.shape))
    found = unwrap(noisy, DISC)
    theirs = unwrap_phase(np.ma.array(noisy, mask=~DISC)).filled(np.nan)
    assert np.mean(np.abs(off(found[DISC], theirs[DISC])) > 1) < 0.002
    turns = (found - noisy)[DISC] / TURN_RAD
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)


def test_a_pair_of_vortices_tears_the_phase_between_them_and_nowhere_else():
    vortices = np.arctan2(Y - 48, X - 40) - np.arctan2(Y - 48, X - 56)
    found = unwrap(wrapped(vortices + 0.1 * Y), np.ones_like(DISC))
    far = np.hypot(Y - 48, X - 48) > 30
    np.testing.assert_allclose(off(found[far], (vortices + 0.1 * Y)[far]), 0, atol=1e-3)


def test_islands_are_unwrapped_each_for_itself_near_no_turn_on_average():
    islands = DISC & (np.abs(X - 48) > 4)
    found = unwrap(wrapped(HILL), islands)
    for island in (islands & (X < 48), islands & (X > 48)):
        np.testing.assert_allclose(off(found[island], HILL[island]), 0, atol=1e-4)
        assert abs((found - wrapped(HILL))[island].mean()) < TURN_RAD


@pytest.mark.parametrize("covered", [np.zeros((3, 4), bool), np.eye(4, dtype=bool), np.ones((1, 1), bool)])
def test_what_has_no_neighbours_stays_as_it_is(covered):
    phase_rad = np.full(covered.shape, 2.0, np.float32)
    found = unwrap(phase_rad, covered)
    np.testing.assert_array_equal(found, np.where(covered, phase_rad, np.nan))


@pytest.fixture
def ramp():
    """A mosaic of one tile whose phase climbs by 0.2 rad a pixel along x."""
    mosaic = Mosaic(1e-8, np.ones((EDGE, 3 * EDGE), np.float32))
    phase_rad = np.tile(0.2 * np.arange(3 * EDGE, dtype=np.float32), (EDGE, 1))[None]
    one = np.zeros(1, np.int64)
    mosaic.add(
        Tiles("s", one, np.zeros((1, 2)), np.ones_like(phase_rad), np.cos(phase_rad), np.sin(phase_rad), one)
    )
    return mosaic


@pytest.mark.parametrize(("most_px", "step"), [(512, 1), (100, 3), (60, 5)])
def test_a_large_mosaic_is_unwrapped_coarsely_and_has_every_pixel_of_its_own(ramp, most_px, step):
    found = unwrapped(ramp, most_px)
    assert found.step == step
    assert max(found.plane.shape) <= most_px
    phase_rad = ramp.image("phase", found.bounds)
    whole = found.at_full_size(phase_rad)
    np.testing.assert_allclose(np.diff(whole, axis=1)[:, :-1], 0.2, atol=1e-3)
    np.testing.assert_allclose(wrapped(whole - phase_rad), 0, atol=1e-4)
