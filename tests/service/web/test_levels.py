"""What a coarse pixel says of the pixels under it."""

from __future__ import annotations

import numpy as np
import pytest

from service.planes import show
from service.web.levels import Levels, Window, above, below, means_of, planes_of, shrink

SIDE = 8


def sums(seed, agreement=1.0, confidence=0.5):
    """Sums of a part of a mosaic whose tiles agree and are trusted so far."""
    dice = np.random.default_rng(seed)
    amplitude, phase, weight = dice.uniform(0.2, 1, (3, SIDE, SIDE))
    phasor = agreement * weight * np.exp(1j * (6 * phase - 3))
    planes = [weight, weight * amplitude, phasor.real, phasor.imag, weight * (1 - confidence)]
    return np.stack(planes).astype(np.float32)


def coarse(of, level):
    return planes_of(shrink(means_of(of), level))


def test_what_is_averaged_over_one_pixel_stays_as_it_is():
    before, after = show(sums(1, agreement=0.7)), coarse(sums(1, agreement=0.7), 0)
    for name in ("amplitude", "phase", "agreement", "coverage", "confidence"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-5)


def test_phases_either_side_of_pi_meet_at_pi_and_not_at_zero():
    mixed = sums(1)
    phase_rad = np.where(np.arange(SIDE) % 2, 3.1, -3.1)
    mixed[2], mixed[3] = np.cos(phase_rad), np.sin(phase_rad)
    mixed[0] = 1
    assert np.abs(coarse(mixed, 1).phase).min() > 3.1


def test_detail_of_the_phase_is_no_disagreement_of_the_tiles():
    seen = coarse(sums(2, agreement=0.9), 2)
    np.testing.assert_allclose(seen.agreement, 0.9, rtol=1e-5)
    np.testing.assert_allclose(seen.confidence, 0.45, rtol=1e-5)


def test_dark_pixels_say_nothing():
    half_dark = sums(3)
    half_dark[:, :, 1::2] = 0
    assert coarse(half_dark, 1).amplitude.min() > 0.2
    dark = coarse(0 * half_dark, 1)
    assert (dark.amplitude.max(), dark.phase.max(), dark.coverage.max()) == (0, 0, 0)


def test_two_steps_are_one_step_of_twice_the_depth():
    means = means_of(sums(4))
    np.testing.assert_allclose(shrink(shrink(means, 1), 2), shrink(means, 3), rtol=1e-5)


@pytest.mark.parametrize("key", [(1, -1, 0), (2, 3, -2), (0, 5, 5)])
def test_a_block_lies_over_those_that_lie_below_it(key):
    assert above(below(key), key[0]) == {key}
    assert len(set(below(key))) == 4 ** key[0]


def test_a_coarse_block_reads_only_what_has_changed():
    base = {(by, bx): sums(10 * by + bx) for by in range(2) for bx in range(2)}
    read = []

    def look(key):
        read.append(key)
        return base[key]

    levels = Levels(SIDE)
    first = levels.block((1, 0, 0), base, look)
    assert sorted(read) == sorted(base)
    read.clear()
    base[1, 0] = sums(99)
    levels.note_changed([(1, 0)])
    second = levels.block((1, 0, 0), base, look)
    assert read == [(1, 0)]
    half = SIDE // 2
    np.testing.assert_array_equal(second.amplitude[:half], first.amplitude[:half])
    assert (second.amplitude[half:, :half] != first.amplitude[half:, :half]).all()


def test_coarse_blocks_that_nobody_asks_for_are_forgotten():
    read = []
    levels = Levels(SIDE, kept=2)
    for bx in (0, 1, 2, 0):
        levels.block((1, 0, bx), {(0, 2 * bx)}, lambda key: read.append(key) or sums(1))
    assert read == [(0, 0), (0, 2), (0, 4), (0, 0)]


def test_a_window_holds_its_first_block_and_not_its_end():
    window = Window(2, (0, 2), (-1, 1))
    assert window.holds((2, 0, -1))
    assert not window.holds((2, 2, 0))
    assert not window.holds((1, 0, 0))
