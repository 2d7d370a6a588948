import numpy as np
import pytest

from training.judging.stitching import (
    average,
    centre_weight,
    stitch_angles,
    stitch_as_paper,
    stitch_on_circle,
)

PILE = np.zeros((2, 2), int)


def flat_tiles(*values, edge=8):
    return np.stack([np.full((edge, edge), value, np.float32) for value in values])


def raster(lines, step):
    return np.stack(np.meshgrid(*[np.arange(lines) * step] * 2, indexing="ij"), axis=-1).reshape(-1, 2)


def cut(image, corners, edge):
    return np.stack([image[y : y + edge, x : x + edge] for y, x in corners])


@pytest.fixture(scope="module")
def scene():
    """Amplitude and phase, several wraps of it, of a 40 × 40 object, and 16 × 16 tiles at a step of 8."""
    y, x = np.indices((40, 40))
    amplitude, phase_rad = 0.75 + 0.2 * np.cos(0.4 * x), 0.2 * y + 2 * np.sin(0.3 * x)
    corners = raster(4, 8)
    return amplitude, phase_rad, corners, cut(amplitude, corners, 16), cut(phase_rad, corners, 16)


def test_phases_on_both_sides_of_the_wrap_meet_at_pi_on_the_circle():
    found = stitch_on_circle(None, flat_tiles(3.1, -3.1), PILE, (8, 8))
    np.testing.assert_allclose(np.abs(found.phase_rad), np.pi, atol=1e-6)
    np.testing.assert_allclose(found.agreement, np.cos(np.pi - 3.1), rtol=1e-6)


def test_phases_on_both_sides_of_the_wrap_meet_at_nothing_as_the_paper_averages_them():
    found = stitch_as_paper(None, flat_tiles(3.1, -3.1), PILE, (8, 8), keep_px=8)
    np.testing.assert_array_equal(found.phase_rad, 0)
    assert found.agreement is None


def test_flat_tiles_make_a_flat_field():
    corners = raster(3, 4)
    for found in (
        stitch_as_paper(flat_tiles(*[0.7] * 9), flat_tiles(*[0.4] * 9), corners, (16, 16), 8),
        stitch_on_circle(flat_tiles(*[0.7] * 9), flat_tiles(*[0.4] * 9), corners, (16, 16)),
    ):
        covered = found.coverage > 0
        np.testing.assert_allclose(found.amplitude[covered], 0.7, rtol=1e-6)
        np.testing.assert_allclose(found.phase_rad[covered], 0.4, rtol=1e-6)
        assert {found.amplitude.dtype, found.phase_rad.dtype, found.coverage.dtype} == {np.dtype(np.float32)}


def test_true_tiles_make_the_true_field(scene):
    amplitude, phase_rad, corners, amplitudes, phases = scene
    found = stitch_on_circle(amplitudes, phases, corners, (40, 40))
    np.testing.assert_allclose(found.amplitude, amplitude, rtol=1e-6)
    np.testing.assert_allclose(np.exp(1j * found.phase_rad), np.exp(1j * phase_rad), atol=1e-6)
    np.testing.assert_allclose(found.agreement, 1, rtol=1e-6)
    as_paper = stitch_as_paper(amplitudes, phases, corners, (40, 40), keep_px=12)
    np.testing.assert_allclose(as_paper.phase_rad[2:38, 2:38][1:, 1:], phase_rad[3:38, 3:38], atol=1e-5)


def test_wrapped_tiles_stitch_on_the_circle_and_break_as_the_paper_averages_them(scene):
    _, phase_rad, corners, _, phases = scene
    wrapped = phases + 2 * np.pi * np.arange(len(corners))[:, None, None]
    on_circle = stitch_on_circle(None, wrapped, corners, (40, 40))
    as_paper = stitch_as_paper(None, wrapped, corners, (40, 40), keep_px=16)
    errors = [np.abs(np.exp(1j * s.phase_rad) - np.exp(1j * phase_rad)).max() for s in (on_circle, as_paper)]
    assert errors[0] < 1e-5
    assert errors[1] > 1


def test_the_paper_s_weight_is_one_in_the_middle_and_zero_at_a_corner():
    weight = centre_weight(8)
    assert (weight[4, 4], weight[0, 0]) == (1, 0)
    assert weight[4, 0] == pytest.approx((1 - 4 / np.hypot(4, 4)) ** 2)
    np.testing.assert_array_equal(weight, weight.T)
    assert np.count_nonzero(centre_weight(9) == 0) == 4
    assert centre_weight(1) == 1


def test_a_pixel_that_only_a_corner_sees_has_no_coverage():
    found = stitch_as_paper(flat_tiles(0.7), flat_tiles(0.4), PILE[:1], (8, 8), keep_px=8)
    assert (found.coverage[0, 0], found.amplitude[0, 0], found.phase_rad[0, 0]) == (0, 0, 0)
    assert (found.coverage > 0).sum() == 63


@pytest.mark.parametrize(("edge", "keep_px", "first"), [(8, 4, 2), (8, 3, 3), (7, 4, 1), (7, 3, 2)])
def test_the_kept_middle_stays_where_it_lay_in_its_tile(edge, keep_px, first):
    field = np.arange(144.0).reshape(12, 12)
    corner = np.array([[2, 3]])
    found = stitch_as_paper(None, cut(field, corner, edge), corner, (12, 12), keep_px)
    covered = found.coverage > 0
    np.testing.assert_allclose(found.phase_rad[covered], field[covered], rtol=1e-6)
    assert found.coverage.argmax() == (2 + edge // 2) * 12 + 3 + edge // 2
    beyond = np.ones_like(covered)
    beyond[2 + first : 2 + first + keep_px, 3 + first : 3 + first + keep_px] = False
    assert not covered[beyond].any()


def test_the_weight_says_which_tile_is_trusted():
    left = np.zeros((8, 8))
    left[:, :4] = 3.0
    tiles = flat_tiles(0.2, 0.8)
    found = stitch_on_circle(tiles, tiles, np.array([[0, 0], [0, 4]]), (8, 12), left)
    np.testing.assert_array_equal(found.coverage[0], [3] * 8 + [0] * 4)
    np.testing.assert_allclose(found.amplitude[0], [0.2] * 4 + [0.8] * 4 + [0] * 4, rtol=1e-6)
    np.testing.assert_allclose(found.agreement[0], [1] * 8 + [0] * 4)


def test_tiles_of_unknown_absolute_phase_are_turned_to_fit_the_mosaic(scene):
    _, phase_rad, corners, _, phases = scene
    unknown = np.random.default_rng(0).uniform(-np.pi, np.pi, len(corners))
    unknown[0] = 0  # the first tile sets the field's gauge
    turned = phases + unknown[:, None, None]
    plain = stitch_on_circle(None, turned, corners, (40, 40))
    found = stitch_on_circle(None, turned, corners, (40, 40), gauge=True)
    np.testing.assert_allclose(np.exp(1j * found.phase_rad), np.exp(1j * phase_rad), atol=1e-5)
    np.testing.assert_allclose(found.agreement, 1, rtol=1e-6)
    assert plain.agreement.min() < 0.5


def test_a_tile_between_pixels_is_shared_among_those_it_straddles():
    tile = np.zeros((1, 4, 4), np.float32)
    tile[0, 1, 1] = 1.0
    found = stitch_on_circle(tile, tile, np.array([[2.25, 3.5]]), (10, 10))
    light = found.coverage
    assert light.sum() == pytest.approx(16)
    np.testing.assert_allclose(light[2, 3:8], 0.75 * np.array([0.5, 1, 1, 1, 0.5]))
    amplitude = found.amplitude * light
    np.testing.assert_allclose(amplitude[3:5, 4:6], np.outer([0.75, 0.25], [0.5, 0.5]))


def test_whole_pixels_stitch_alike_as_integers_and_as_fractions(scene):
    _, _, corners, amplitudes, phases = scene
    for stitch in (stitch_on_circle, stitch_angles):
        whole, fine = (stitch(amplitudes, phases, at, (40, 40)) for at in (corners, corners.astype(float)))
        np.testing.assert_array_equal(whole.phase_rad, fine.phase_rad)
        np.testing.assert_array_equal(whole.amplitude, fine.amplitude)


def test_averaged_angles_of_both_sides_of_the_wrap_meet_at_nothing():
    found = stitch_angles(None, flat_tiles(3.1, -3.1), PILE, (8, 8))
    np.testing.assert_allclose(found.phase_rad, 0, atol=1e-6)
    assert found.agreement is None


def test_what_tiles_say_is_averaged_where_they_overlap():
    values = np.array([0.2, 0.8])[:, None, None]
    found = average(values, np.array([[0, 0], [0, 4]]), (8, 14), np.ones((8, 8)))
    np.testing.assert_allclose(found[0], [0.2] * 4 + [0.5] * 4 + [0.8] * 4 + [0] * 2, rtol=1e-6)
    with pytest.raises(ValueError, match="beyond the field"):
        average(values, np.array([[0, 0], [0, 6.5]]), (8, 14), np.ones((8, 8)))


def test_a_method_without_amplitude_makes_a_field_without_amplitude():
    assert stitch_on_circle(None, flat_tiles(1.0), PILE[:1], (8, 8)).amplitude is None
    assert stitch_as_paper(None, flat_tiles(1.0), PILE[:1], (8, 8), 4).amplitude is None


@pytest.mark.parametrize("corner", [(-1, 0), (0, 5)])
def test_a_tile_beyond_the_field_is_refused(corner):
    corners, tile = np.array([corner]), flat_tiles(1.0)
    with pytest.raises(ValueError, match="beyond the field"):
        stitch_on_circle(None, tile, corners, (8, 12))
    with pytest.raises(ValueError, match="beyond the field"):
        stitch_as_paper(None, tile, corners, (8, 12), keep_px=8)


def test_parts_that_do_not_fit_are_refused():
    tiles = flat_tiles(1.0, 2.0)
    with pytest.raises(ValueError, match="do not fit"):
        stitch_on_circle(tiles[:1], tiles, PILE, (8, 8))
    with pytest.raises(ValueError, match="need corners"):
        stitch_on_circle(None, tiles, PILE[:1], (8, 8))
    with pytest.raises(ValueError, match="none negative"):
        stitch_on_circle(None, tiles, PILE, (8, 8), -np.ones((8, 8)))
    with pytest.raises(ValueError, match="cannot keep 9"):
        stitch_as_paper(None, tiles, PILE, (8, 8), keep_px=9)
