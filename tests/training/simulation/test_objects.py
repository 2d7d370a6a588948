import numpy as np
import pytest

from training.simulation.objects import EVERY_FAMILY, FAMILIES, HELD_OUT, ObjectRecipe, random_object

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


def test_spokes_are_not_shown_in_training():
    assert set(HELD_OUT) == {"spokes"}
    assert not set(FAMILIES) & set(HELD_OUT)
    assert ObjectRecipe().families == tuple(FAMILIES)
    assert HELD_OUT["spokes"] not in FAMILIES.values()


def test_spokes_alternate_about_a_hub():
    # where one hub is drawn, thickness takes two values, and a ring about the hub meets many edges
    thickness = next(t for t in (draw("spokes", s) for s in range(50)) if len(np.unique(t)) == 2)
    edges = (
        np.abs(np.diff(thickness, axis=0)).astype(bool).sum() + np.abs(np.diff(thickness)).astype(bool).sum()
    )
    assert edges > 4 * SIZE


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_transmission_keeps_to_its_recipe(family):
    recipe = ObjectRecipe(families=(family,))
    for seed in range(8):
        transmission = random_object(np.random.default_rng(seed), SIZE, recipe)
        amplitude, phase = np.abs(transmission), np.angle(transmission)
        assert transmission.dtype == np.complex64
        assert 0.4 < amplitude.min() <= amplitude.max() <= recipe.amplitude_max + 1e-6
        assert np.ptp(phase) <= recipe.phase_span_rad[1] + 0.8 + 1e-5


def test_phases_turn_both_ways():
    means = [
        np.angle(random_object(np.random.default_rng(s), SIZE, ObjectRecipe()).mean()) for s in range(20)
    ]
    assert min(means) < -0.1
    assert max(means) > 0.1


@pytest.mark.parametrize("families", [(), ("bars", "unicorns")])
def test_a_family_that_nobody_knows_is_refused(families):
    with pytest.raises(ValueError, match="polygons"):
        ObjectRecipe(families=families)
