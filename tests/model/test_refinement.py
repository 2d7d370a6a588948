"""Refining an object by measured frames: lower residual, and nearer to the truth."""

import gc
import weakref

import numpy as np
import pytest

from model.judge import align_global_phase, forward_residual, phase_rms_rad
from model.optics import far_field, shifted_probes
from model.refinement import Misfit, ObjectRefinement, Placement, placement

FRAME = 32
SIDE = 80
INVALID = 65535


def blurred(image, width):
    kernel = np.exp(-np.square(np.hypot.outer(*(np.fft.fftfreq(n) for n in image.shape)) * width))
    return np.fft.ifft2(np.fft.fft2(image) * kernel)


@pytest.fixture(scope="module")
def probe():
    """Two modes, some 60 000 photons."""
    y, x = np.mgrid[:FRAME, :FRAME] - FRAME // 2
    first = np.exp(-(y**2 + x**2) / 40 + 0.02j * (y**2 - x * y))
    return (np.stack([first, 0.4 * first * (x + 1j * y) / 5]) * 30).astype(np.complex64)


@pytest.fixture(scope="module")
def truth():
    dice = np.random.default_rng(3)
    phase, absorption = (blurred(dice.normal(size=(SIDE, SIDE)), 8).real for _ in range(2))
    return np.exp(0.8j * phase / phase.std() - 0.1 * np.abs(absorption / absorption.std())).astype(
        np.complex64
    )


@pytest.fixture(scope="module")
def places():
    steps = np.arange(FRAME // 2 + 1, SIDE - FRAME // 2 - 1, 4.0)
    jitter = np.random.default_rng(4).integers(-6, 7, (len(steps), len(steps), 2)) / 8
    return [
        placement((y + jitter[i, j, 0], x + jitter[i, j, 1]), (FRAME, FRAME))
        for i, y in enumerate(steps)
        for j, x in enumerate(steps)
    ]


@pytest.fixture(scope="module")
def patterns(probe, truth, places):
    """The expected photons of all frames, (n, 32, 32)."""
    shifts = np.array([place.shift for place in places]) / 8
    probes = shifted_probes(np.fft.fft2(probe), shifts)
    return np.concatenate(
        [far_field(p, patch(truth, place)[None]) for p, place in zip(probes, places, strict=True)]
    )


@pytest.fixture(scope="module")
def counts(patterns):
    return np.random.default_rng(5).poisson(patterns).astype(np.uint16)


@pytest.fixture(scope="module")
def lit(probe, places):
    """Where the truth can be known: enough light of the whole scan."""
    light = np.zeros((SIDE, SIDE))
    for place in places:
        patch(light, place)[...] += np.square(np.abs(probe)).sum(axis=0)
    return light > 0.3 * light.max()


def patch(image, place):
    return image[place.top : place.top + FRAME, place.left : place.left + FRAME]


def swept(engine, start, counts, places, sweeps=1):
    """Refine a copy of the start; return it and each sweep's residual."""
    refined, dice, residuals = start.astype(np.complex64), np.random.default_rng(0), []
    for _ in range(sweeps):
        order = dice.permutation(len(counts)).tolist()
        misfits = [engine.update(patch(refined, places[n]), counts[n], places[n].shift) for n in order]
        residuals.append(sum(misfits, Misfit()).residual)
    return refined, residuals


def residual(engine, transmission, counts, places):
    pairs = zip(counts, places, strict=True)
    return sum((engine.misfit(patch(transmission, p), c, p.shift) for c, p in pairs), Misfit()).residual


def phase_error_rad(estimate, truth, lit):
    return phase_rms_rad(align_global_phase(estimate, truth, lit)[lit], truth[lit])


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0])
def test_refinement_of_a_blurred_object_lowers_residual_and_phase_error(
    probe, truth, counts, places, lit, alpha
):
    engine, start = ObjectRefinement(probe, alpha=alpha), blurred(truth, 15)
    refined, _ = swept(engine, start, counts, places, sweeps=4)
    assert residual(engine, refined, counts, places) < 0.6 * residual(engine, start, counts, places)
    assert phase_error_rad(refined, truth, lit) < 0.4 * phase_error_rad(start, truth, lit)


def test_the_residual_falls_from_sweep_to_sweep(probe, truth, counts, places):
    _, residuals = swept(ObjectRefinement(probe), blurred(truth, 15), counts, places, sweeps=4)
    assert residuals == sorted(residuals, reverse=True)


def test_the_true_object_of_noise_free_frames_stays_as_it_is(probe, truth, patterns, places):
    refined, residuals = swept(ObjectRefinement(probe), truth, patterns, places)
    assert residuals[0] < 1e-4
    np.testing.assert_allclose(refined, truth, atol=1e-3)


def test_the_residual_is_the_one_that_mosaics_are_judged_by(probe, truth, counts, places):
    corners = np.array([(p.top + p.shift[0] / 8, p.left + p.shift[1] / 8) for p in places])
    judged = forward_residual(probe, truth, counts, corners)
    assert residual(ObjectRefinement(probe), truth, counts, places) == pytest.approx(judged, rel=1e-4)


def test_a_share_of_the_step_is_that_share_of_the_change(probe, truth, counts, places):
    start = blurred(truth, 15)
    changes = [
        swept(ObjectRefinement(probe, step=step), start, counts[:1], places[:1])[0] - start
        for step in (1.0, 0.1)
    ]
    np.testing.assert_allclose(changes[1], 0.1 * changes[0], atol=1e-6)


def test_short_steps_keep_the_noise_of_faint_frames_out_of_the_object(probe, truth, patterns, places, lit):
    faint, few = probe / 10, np.random.default_rng(6).poisson(patterns / 100)
    long, short = (
        swept(ObjectRefinement(faint, step=step), truth, few, places, sweeps=2)[0] for step in (1.0, 0.1)
    )
    assert phase_error_rad(short, truth, lit) < 0.6 * phase_error_rad(long, truth, lit)


def test_invalid_pixels_change_neither_object_nor_residual(probe, truth, patterns, places):
    gap = patterns.copy()
    gap[:, 14:16] = INVALID
    refined, residuals = swept(ObjectRefinement(probe, INVALID), truth, gap, places)
    assert residuals[0] < 1e-4
    np.testing.assert_allclose(refined, truth, atol=1e-3)
    _, misled = swept(ObjectRefinement(probe), truth, gap, places)
    assert misled[0] > 0.5, "a mark taken for photons"


def test_an_object_that_is_dark_takes_no_step_into_nothing(probe, counts, places):
    dark = np.zeros((SIDE, SIDE), np.complex64)
    refined, residuals = swept(ObjectRefinement(probe), dark, counts[:1], places[:1])
    assert np.isfinite(refined).all()
    assert residuals == [pytest.approx(1)]


@pytest.mark.parametrize(
    ("centre_px", "expected"),
    [
        ((16.0, 20.0), Placement(0, 4, (0, 0))),
        ((16.5, 20.13), Placement(0, 4, (4, 1))),
        ((16.96, 19.9), Placement(1, 3, (0, 7))),
        ((-0.25, -40.0), Placement(-17, -56, (6, 0))),
    ],
)
def test_the_probe_is_shifted_by_what_whole_pixels_leave_of_a_position(centre_px, expected):
    assert placement(centre_px, (32, 32)) == expected


@pytest.mark.parametrize(
    ("scale", "alpha", "step"), [(0, 0.5, 1.0), (1, 0.0, 1.0), (1, 1.5, 1.0), (1, 0.6, 0.0), (1, 0.6, 1.5)]
)
def test_a_dark_probe_or_an_impossible_step_is_refused(probe, scale, alpha, step):
    with pytest.raises(ValueError, match="probe with light"):
        ObjectRefinement(scale * probe, alpha=alpha, step=step)


def test_misfits_of_frames_add_up_to_the_residual_of_all():
    assert (Misfit(9.0, 100.0) + Misfit(7.0, 300.0)).residual == pytest.approx(0.2)
    assert Misfit().residual == 0


def test_an_engine_that_nobody_holds_is_gone_at_once_with_all_that_it_kept(probe):
    engine = ObjectRefinement(probe, INVALID)
    engine.update(np.ones((FRAME, FRAME), np.complex64), np.ones((FRAME, FRAME), np.uint16), (1, 2))
    still_there = weakref.ref(engine)
    gc.disable()  # what waits for the collector of cycles waits for long beside large arrays
    try:
        del engine
        assert still_there() is None
    finally:
        gc.enable()


def test_an_engine_that_let_go_of_what_it_kept_says_the_same(probe):
    engine = ObjectRefinement(probe, INVALID)
    counts = np.full((FRAME, FRAME), 7, np.uint16)
    patches = np.ones((2, FRAME, FRAME), np.complex64)
    before = engine.update(patches[0], counts, (1, 2))
    engine.release()
    assert engine.update(patches[1], counts, (1, 2)) == before
    assert (patches[0] == patches[1]).all()
