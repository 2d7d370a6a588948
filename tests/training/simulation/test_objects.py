import numpy as np
import pytest

from training.simulation.objects import EVERY_FAMILY, FAMILIES, HELD_OUT

SIZE = 96


def draw(family, seed=1):
    return EVERY_FAMILY[family](np.random.default_rng(seed), SIZE)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_family_draws_thickness_between_nothing_and_one(family):
    for seed in range(5):
        thickness = draw(family, seed)
        assert thickness.shape == (SIZE, SIZE)
        assert thickness.dtype == np.float32
        assert 0 <= thickness.min() < thickness.max() <= 1


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_the_seed_decides_what_a_family_draws(family):
    np.testing.assert_array_equal(draw(family, 3), draw(family, 3))
    assert not np.array_equal(draw(family, 3), draw(family, 4))


def test_no_two_families_draw_alike():
    maps = [draw(family) for family in EVERY_FAMILY]
    assert all(not np.array_equal(a, b) for i, a in enumerate(maps) for b in maps[:i])


def test_spokes_and_zone_plates_are_not_shown_in_training():
    assert set(HELD_OUT) == {"spokes", "zones"}
    assert not set(FAMILIES) & set(HELD_OUT)
    assert not set(FAMILIES.values()) & set(HELD_OUT.values())


def test_spokes_alternate_about_a_hub():
    # where one hub is drawn, thickness takes two values, and a ring about the hub meets many edges
    thickness = next(t for t in (draw("spokes", s) for s in range(50)) if len(np.unique(t)) == 2)
    edges = (
        np.abs(np.diff(thickness, axis=0)).astype(bool).sum() + np.abs(np.diff(thickness)).astype(bool).sum()
    )
    assert edges > 4 * SIZE


def test_zones_thin_out_from_their_centre():
    # where one plate is drawn, a line through its middle meets ever narrower rings
    plate = next(t for t in (draw("zones", s) for s in range(80)) if len(np.unique(t)) == 2 and t[:20].any())
    edges = np.abs(np.diff(plate, axis=0)).astype(bool).sum(axis=0)
    widths = np.diff(np.flatnonzero(np.diff(plate[:, edges.argmax()])))
    assert len(widths) >= 4
    assert widths.max() > 1.5 * min(widths[0], widths[-1])
