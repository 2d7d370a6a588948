import numpy as np
import pytest

from model.optics import far_field
from training.datasets.usaf import UsafRecipe, chart, usaf_set


@pytest.fixture(scope="module")
def small():
    return usaf_set("small", UsafRecipe(lines=12))


def test_the_whole_noisy_set_has_the_published_counts():
    data = usaf_set("usaf-noisy", UsafRecipe(noisy=True))
    counts = data.counts * data.photons
    assert len(data) == 61 * 61
    assert counts.sum(axis=(1, 2)).mean() == pytest.approx(5e4, rel=0.05)
    assert counts.max() == pytest.approx(3.9e4, rel=0.05)
    assert np.percentile(counts, 99.5) == pytest.approx(984, rel=0.02)
    assert (counts == 0).mean() == pytest.approx(0.79, abs=0.01)
    np.testing.assert_allclose(counts, np.round(counts), rtol=1e-6)


def test_frames_are_the_far_field_of_what_the_labels_stand_for(small):
    tiles = small.units.transmission(small.amplitude[:9], small.phase_rad[:9])
    np.testing.assert_allclose(
        small.counts[:9] * small.photons, far_field(small.probe, tiles), rtol=2e-3, atol=0.05
    )


def test_labels_are_cut_from_the_truth_where_the_corners_say(small):
    y, x = small.corners_px[17]
    np.testing.assert_array_equal(small.amplitude[17], small.truth_amplitude[y : y + 32, x : x + 32])
    np.testing.assert_array_equal(small.phase_rad[17], small.truth_phase_rad[y : y + 32, x : x + 32])


def test_the_papers_labels_lie_between_0_and_1(small):
    for labels in (small.truth_amplitude, small.truth_phase_rad, small.counts):
        assert labels.min() == pytest.approx(0, abs=1e-6)
        assert labels.max() == pytest.approx(1, abs=1e-6)


def test_the_papers_object_never_wraps_and_ours_does():
    assert np.ptp(chart()[1]) < np.pi
    assert np.ptp(chart(3.0)[1]) == pytest.approx(6 * np.pi)
    wrapping = usaf_set("wrapping", UsafRecipe(lines=12, turns=3.0))
    assert np.abs(wrapping.truth_phase_rad).max() <= np.pi + 1e-6
    jumps = np.abs(np.diff(wrapping.truth_phase_rad, axis=0)).max()
    assert jumps > 6  # a wrap, in one pixel


def test_one_seed_is_one_set_and_another_is_another():
    def corners(seed):
        return usaf_set("x", UsafRecipe(lines=12, seed=seed)).corners_px

    np.testing.assert_array_equal(corners(1), corners(1))
    assert (corners(1) != corners(2)).any()


def test_the_raster_jitters_by_a_pixel_within_the_object(small):
    off = small.corners_px - 8 * small.raster
    assert set(np.unique(off)) == {-1, 0, 1}
    assert small.corners_px.min() == 0


def test_photons_are_the_intensities_times_their_unit(small):
    photons = small.in_photons()
    assert photons.photons == 1
    np.testing.assert_allclose(photons.counts, small.counts * small.photons)


def test_tiles_in_their_own_gauge_lose_one_angle_and_nothing_else():
    plain, own = (
        usaf_set("chart", UsafRecipe(lines=4, turns=3.0, own_gauge=gauge)) for gauge in (False, True)
    )
    turned = np.exp(1j * (plain.phase_rad - own.phase_rad))
    angle = turned.mean(axis=(1, 2))
    light = np.square(np.abs(own.probe[0]))
    seen = (light * own.units.transmission(own.amplitude, own.phase_rad)).sum(axis=(1, 2))

    np.testing.assert_allclose(np.abs(angle), 1.0, atol=1e-4)  # the same angle in all of a tile's pixels
    np.testing.assert_allclose(np.angle(seen), 0.0, atol=1e-4)
    np.testing.assert_array_equal(own.counts, plain.counts)
    assert np.abs(own.phase_rad).max() <= np.float32(np.pi) + 1e-6
