"""Colours that the eye can trust."""

from __future__ import annotations

import numpy as np
import pytest

from service.colours import COLOUR_MAPS

# sRGB (linear) → LMS → OKLab, as Ottosson gives it.
RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(table):
    encoded = table / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ RGB_TO_LMS.T) @ LMS_TO_OKLAB.T


def perceived_steps(table, stride):
    """Distances in OKLab between every `stride`-th colour; more than one, for 8 bits round each colour."""
    return np.linalg.norm(np.diff(oklab(table)[::stride], axis=0), axis=1)


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_equal_steps_of_the_value_are_equal_steps_to_the_eye(name):
    steps = perceived_steps(COLOUR_MAPS[name], stride=8)
    assert steps.min() > 0.85 * steps.mean()
    assert steps.max() < 1.15 * steps.mean()


@pytest.mark.parametrize("name", ["phase", "hue", "twilight"])
def test_minus_pi_and_plus_pi_are_one_colour(name):
    lab = oklab(COLOUR_MAPS[name])
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert np.linalg.norm(lab[0] - lab[-1]) < 2 * steps.mean()


@pytest.mark.parametrize("name", ["phase", "twilight"])
def test_half_a_turn_of_phase_climbs_from_dark_to_bright(name):
    lightness = oklab(COLOUR_MAPS[name])[:, 0]
    assert (np.diff(lightness[:120:8]) > 0).all()
    assert abs(int(lightness.argmax()) - 128) < 6


def test_all_hues_are_equally_bright():
    lightness = oklab(COLOUR_MAPS["hue"])[:, 0]
    assert np.ptp(lightness) < 0.02


@pytest.mark.parametrize("name", sorted(COLOUR_MAPS.keys() - {"phase", "hue", "twilight", "ink"}))
def test_more_is_always_lighter(name):
    assert (np.diff(oklab(COLOUR_MAPS[name])[::8, 0]) > 0).all()


def test_more_ink_is_always_darker():
    assert (np.diff(oklab(COLOUR_MAPS["ink"])[::8, 0]) < 0).all()
