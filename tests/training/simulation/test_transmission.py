import numpy as np
import pytest

from training.simulation.objects import EVERY_FAMILY, FAMILIES
from training.simulation.transmission import ObjectRecipe, random_object

SIZE = 96
PLAIN = {"weak_share": 0.0, "turns_share": 0.0, "pure_phase_share": 0.0, "opaque_share": 0.0}


def objects(n=8, **changes):
    recipe = ObjectRecipe(**PLAIN | changes)
    return [random_object(np.random.default_rng(seed), SIZE, recipe) for seed in range(n)]


def unwrapped(transmission):
    return np.unwrap(np.unwrap(np.angle(transmission), axis=0), axis=1)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_an_ordinary_transmission_keeps_to_its_recipe(family):
    recipe = ObjectRecipe(families=(family,), **PLAIN)
    for transmission in objects(families=(family,)):
        amplitude = np.abs(transmission)
        assert transmission.dtype == np.complex64
        assert 0.4 < amplitude.min() <= amplitude.max() <= recipe.amplitude_max + 1e-6
        assert np.ptp(np.angle(transmission)) <= recipe.phase_span_rad[1] + 0.8 + 1e-5


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_phase_of_several_turns_wraps_and_its_pixel_can_still_hold_it(family):
    high = {
        "families": (family,),
        "turns_share": 1.0,
        "background_share": 0.0,
        "phase_span_rad": (12.0, 12.0),
    }
    spans = []
    for transmission in objects(4, **high):
        spans.append(np.ptp(unwrapped(transmission)))
        for axis in (0, 1):
            step = np.angle(np.exp(1j * np.diff(np.angle(transmission), axis=axis)))
            assert np.abs(step).max() <= np.pi / 2 + 1e-3
    assert max(spans) > 2 * np.pi


def test_a_weak_object_stays_within_its_phase():
    for transmission in objects(20, weak_share=1.0):
        assert 0 < np.ptp(np.angle(transmission)) <= 0.4


def test_a_pure_phase_object_absorbs_nothing():
    for transmission in objects(pure_phase_share=1.0):
        np.testing.assert_allclose(np.abs(transmission), 1, atol=1e-6)
        assert np.ptp(np.angle(transmission)) > 0


def test_an_opaque_object_absorbs_much_and_gains_nothing():
    amplitudes = [np.abs(transmission) for transmission in objects(20, opaque_share=1.0)]
    assert max(a.max() for a in amplitudes) <= 1 + 1e-6
    assert min(a.min() for a in amplitudes) < 0.3
    assert min(a.min() for a in amplitudes) > np.exp(-2) - 1e-3


@pytest.mark.parametrize("follows", [0.0, 1.0])
def test_absorption_follows_the_phase_or_goes_its_own_way(follows):
    together = objects(correlated_share=follows, opaque_share=1.0, background_share=0.0)
    found = [np.corrcoef(np.abs(o).ravel(), np.angle(o).ravel())[0, 1] for o in together]
    assert (np.min(np.abs(found)) > 0.8) == (follows == 1)


def test_shares_of_the_default_recipe_are_met():
    drawn = [random_object(np.random.default_rng(s), 48, ObjectRecipe()) for s in range(200)]
    pure = np.mean([np.ptp(np.abs(o)) < 1e-5 for o in drawn])
    high = np.mean([np.ptp(unwrapped(o)) > 4 for o in drawn])
    assert pure == pytest.approx(0.25, abs=0.08)
    assert 0.02 < high < 0.15  # one in ten, of which some show little in a small object
    assert np.mean([np.ptp(np.angle(o)) < 0.4 for o in drawn]) > 0.08


def test_phases_turn_both_ways():
    means = [np.angle(transmission.mean()) for transmission in objects(20)]
    assert min(means) < -0.1
    assert max(means) > 0.1


def test_families_kept_out_of_training_are_not_in_the_default_recipe():
    assert ObjectRecipe().families == tuple(FAMILIES)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"families": ()}, "polygons"),
        ({"families": ("bars", "unicorns")}, "polygons"),
        ({"phase_span_rad": (2.0, 1.0)}, "phase span"),
        ({"weak_share": 0.6, "turns_share": 0.6}, "at most 1"),
        ({"opaque_share": -0.1}, "at least 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        ObjectRecipe(**wrong)
