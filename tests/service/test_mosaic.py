import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.messages import Tiles
from service.mosaic import Mosaic

PIXEL_M = 2.0**-20  # a power of two, so that whole pixels stay whole in metres
WEIGHT = np.array([[0, 1, 2, 1], [1, 4, 4, 2], [2, 4, 8, 1], [1, 2, 1, 0], [0, 1, 1, 0]], np.float32)
SHAPE = WEIGHT.shape


def make_tiles(positions_px, amplitude, phase, confidence=None):
    positions_px = np.asarray(positions_px, np.float64).reshape(-1, 2)
    n = len(positions_px)
    amplitude, phase = (
        np.broadcast_to(np.asarray(plane, np.float32), (n, *SHAPE)) for plane in (amplitude, phase)
    )
    return Tiles(
        "scan",
        np.arange(n),
        positions_px * PIXEL_M,
        amplitude.copy(),
        np.cos(phase),
        np.sin(phase),
        np.zeros(n, np.int64),
        confidence=None if confidence is None else np.full((n, *SHAPE), confidence, np.float32),
    )


def some(tiles, chosen):
    names = ("indices", "positions_m", "amplitude", "cos", "sin", "received_ns", "confidence")
    return Tiles(tiles.scan, *(getattr(tiles, name)[chosen] for name in names))


def random_tiles(n, seed, reach_px=30.0):
    random = np.random.default_rng(seed)
    return make_tiles(
        random.uniform(-reach_px, reach_px, (n, 2)),
        random.uniform(0.2, 1, (n, *SHAPE)),
        random.uniform(-np.pi, np.pi, (n, *SHAPE)),
        random.uniform(0, 1, (n, *SHAPE)),
    )


def make_mosaic(**settings):
    return Mosaic(PIXEL_M, WEIGHT, **{"block_px": 8, **settings})


def stitched(tiles, **settings):
    mosaic = make_mosaic(**settings)
    mosaic.add(tiles)
    return mosaic


def summed_pixel_by_pixel(tiles, bounds):
    """Σw, Σw·A, Σw·e^{iφ}, Σw·confidence computed one pixel of one tile at a time."""
    y0, x0, y1, x1 = bounds
    weight, light, phasor, trust = (np.zeros((y1 - y0 + 1, x1 - x0 + 1), complex) for _ in range(4))
    for tile, (y, x) in enumerate(tiles.positions_m / PIXEL_M):
        for i, j in np.ndindex(SHAPE):
            row, column = y + i - SHAPE[0] // 2 - y0, x + j - SHAPE[1] // 2 - x0
            for r, c in np.ndindex(2, 2):
                at = int(np.floor(row)) + r, int(np.floor(column)) + c
                w = (1 - abs(row - at[0])) * (1 - abs(column - at[1])) * WEIGHT[i, j] / WEIGHT.max()
                weight[at] += w
                light[at] += w * tiles.amplitude[tile, i, j]
                phasor[at] += w * (tiles.cos[tile, i, j] + 1j * tiles.sin[tile, i, j])
                trust[at] += w * tiles.confidence[tile, i, j]
    return tuple(plane[:-1, :-1] for plane in (weight.real, light.real, phasor, trust.real))


def assert_same(one, other):
    assert one.bounds() == other.bounds()
    for channel in ("coverage", "amplitude", "agreement", "confidence"):
        np.testing.assert_allclose(one.image(channel), other.image(channel), atol=2e-5)
    turn = one.object() * other.object().conj()
    steady = (one.image("agreement") > 0.01) & (one.image("coverage") > 1e-3)
    assert np.abs(np.angle(turn[steady])).max(initial=0) < 1e-3


def test_the_mosaic_is_the_sum_of_bilinearly_placed_tiles():
    tiles = random_tiles(12, seed=0, reach_px=6)
    mosaic = stitched(tiles)
    weight, light, phasor, trust = summed_pixel_by_pixel(tiles, mosaic.bounds())
    lit = weight > 1e-6
    np.testing.assert_allclose(mosaic.image("coverage"), weight, atol=1e-5)
    np.testing.assert_allclose(mosaic.image("amplitude")[lit], (light[lit] / weight[lit]), rtol=1e-4)
    np.testing.assert_allclose(
        mosaic.image("agreement")[lit], np.abs(phasor[lit]) / weight[lit], rtol=1e-3, atol=1e-4
    )
    turn = np.angle(mosaic.object()[lit] * phasor[lit].conj())
    assert np.abs(turn).max() < 1e-2
    confidence = trust[lit] / weight[lit] * np.abs(phasor[lit]) / weight[lit]
    np.testing.assert_allclose(mosaic.image("confidence")[lit], confidence, rtol=2e-3, atol=2e-4)


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(9)), st.sets(st.integers(1, 8)), st.integers(0, 2**31))
def test_tiles_give_the_same_mosaic_in_any_order_and_any_batches(order, cuts, seed):
    tiles = random_tiles(9, seed)
    mosaic = make_mosaic()
    for batch in np.split(np.array(order), sorted(cuts)):
        mosaic.add(some(tiles, batch))
    assert_same(mosaic, stitched(tiles))


@pytest.mark.parametrize("block_px", [3, 8, 64])
def test_blocks_leave_no_seams(block_px):
    tiles = random_tiles(20, seed=1)
    assert_same(stitched(tiles, block_px=block_px), stitched(tiles, block_px=1000))


def test_phases_on_both_sides_of_the_wrap_meet_at_pi():
    mosaic = make_mosaic()
    for phase in (3.1, -3.1):
        mosaic.add(make_tiles([0, 0], 1.0, phase))
    lit = mosaic.image("coverage") > 0
    np.testing.assert_allclose(np.abs(mosaic.image("phase")[lit]), np.pi, atol=1e-3)
    np.testing.assert_allclose(mosaic.image("agreement")[lit], np.cos(np.pi - 3.1), atol=1e-5)


def test_opposite_phases_agree_nowhere_and_equal_ones_everywhere():
    opposed = make_mosaic()
    for phase in (0.5, 0.5 + np.pi):
        opposed.add(make_tiles([0, 0], 1.0, phase))
    assert opposed.agreement_mean() < 1e-6
    same = stitched(make_tiles([[0, 0], [1.3, 0.4]], 1.0, 0.5))
    assert same.agreement_mean() == pytest.approx(1.0, abs=1e-6)
    assert same.image("agreement").max() <= 1


def test_confidence_is_that_of_the_tiles_times_their_agreement():
    mosaic = make_mosaic()
    for phase, confidence in ((3.1, 0.9), (-3.1, 0.5)):
        mosaic.add(make_tiles([0, 0], 1.0, phase, confidence))
    lit = mosaic.image("coverage") > 0
    np.testing.assert_allclose(mosaic.image("confidence")[lit], 0.7 * np.cos(np.pi - 3.1), atol=1e-5)
    assert mosaic.confidence_mean() == pytest.approx(0.7 * np.cos(np.pi - 3.1), abs=1e-5)


def test_tiles_of_a_model_without_confidence_are_believed_as_far_as_they_agree():
    mosaic = make_mosaic()
    for phase in (0.0, 1.0):
        mosaic.add(make_tiles([0.3, 0], 1.0, phase))
    np.testing.assert_array_equal(mosaic.image("confidence"), mosaic.image("agreement"))
    assert mosaic.confidence_mean() == pytest.approx(mosaic.agreement_mean())
    mosaic.add(make_tiles([0.3, 0], 1.0, 0.5, 0.1))
    assert mosaic.confidence_mean() == pytest.approx(0.7 * mosaic.agreement_mean(), rel=1e-4)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_confidence_stays_between_nothing_and_full(confidence):
    tiles = make_tiles(np.random.default_rng(8).uniform(-9, 9, (30, 2)), 1.0, 0.4, confidence)
    shown = stitched(tiles).image("confidence")
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert np.median(shown[shown > 0]) == pytest.approx(1) if confidence else shown.max() < 1e-5


def test_where_no_light_fell_everything_is_zero_and_finite():
    mosaic = stitched(make_tiles([[0, 0], [20, 20]], 0.7, np.pi, 0.8))
    for channel in ("amplitude", "phase", "agreement", "coverage", "confidence"):
        picture = mosaic.image(channel)
        assert picture.dtype == np.float32
        assert np.isfinite(picture).all()
        assert picture[0, 0] == 0, "the weight is zero at the corner of a tile"
        assert picture[-1, 0] == 0, "no tile has been there"
    assert mosaic.object()[-1, 0] == 0


def test_a_tile_is_centred_on_its_position():
    amplitude = np.zeros(SHAPE)
    amplitude[SHAPE[0] // 2, SHAPE[1] // 2] = 1
    mosaic = stitched(make_tiles([-7, 11], amplitude, 0.0))
    y0, x0, y1, x1 = mosaic.bounds()
    assert (y1 - y0, x1 - x0) == SHAPE
    (row,), (column,) = np.nonzero(mosaic.image("amplitude"))
    assert (y0 + row, x0 + column) == (-7, 11)
    assert mosaic.origin_m == (y0 * PIXEL_M, x0 * PIXEL_M)


def test_a_fraction_of_a_pixel_moves_the_centre_of_mass_and_conserves_the_light():
    def centre(position):
        mosaic = stitched(make_tiles(position, 1.0, 0.0))
        y0, x0, _, _ = mosaic.bounds()
        coverage = mosaic.image("coverage").astype(np.float64)
        rows, columns = np.indices(coverage.shape)
        total = coverage.sum()
        return np.array(
            [(rows * coverage).sum() / total + y0, (columns * coverage).sum() / total + x0]
        ), total

    here, light = centre([0, 0])
    there, light_there = centre([-2.3, 4.75])
    np.testing.assert_allclose(there - here, [-2.3, 4.75], atol=1e-5)
    assert light_there == pytest.approx(light, rel=1e-6)
    assert light == pytest.approx(WEIGHT.sum() / WEIGHT.max(), rel=1e-6)


def test_the_mosaic_grows_in_every_direction_and_keeps_what_it_has():
    mosaic = stitched(make_tiles([0, 0], 0.5, 0.25))
    before = mosaic.image("amplitude")
    mosaic.add(make_tiles([[-100, 0], [0, -100], [100, 0], [0, 100]], 0.5, 0.25))
    y0, x0, y1, x1 = mosaic.bounds()
    assert (y0, x0, y1, x1) == (-102, -102, 103, 102)
    np.testing.assert_array_equal(mosaic.image("amplitude")[-2 - y0 : 3 - y0, -2 - x0 : 2 - x0], before)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("plane", ["amplitude", "cos", "sin", "confidence"])
def test_a_tile_that_is_not_finite_is_refused_and_poisons_nothing(plane, poison):
    tiles = random_tiles(4, seed=2)
    getattr(tiles, plane)[2, 0, 0] = poison  # where its weight is zero, too
    mosaic = make_mosaic()
    went = mosaic.add(tiles)
    assert went.stitched.tolist() == [0, 1, 3]
    assert went.not_finite.tolist() == [2]
    assert went.outside.tolist() == []
    assert_same(mosaic, stitched(some(tiles, [0, 1, 3])))


@pytest.mark.parametrize("astray_px", [np.nan, np.inf, -np.inf, 1e300, 1001.0, -1001.0])
def test_a_tile_without_a_sensible_position_is_refused(astray_px):
    mosaic = make_mosaic(max_extent_px=1000)
    went = mosaic.add(make_tiles([[0, 0], [astray_px, 0], [0, astray_px], [2, 2]], 1.0, 0.0))
    assert went.stitched.tolist() == [0, 3]
    assert went.outside.tolist() == [1, 2]


def test_a_tile_that_would_make_the_mosaic_too_large_is_refused():
    mosaic = make_mosaic(max_blocks=9)
    went = mosaic.add(make_tiles([[4, 4], [60, 60], [20, 20]], 1.0, 0.0))
    assert went.stitched.tolist() == [0, 2]
    assert went.outside.tolist() == [1]


def test_an_absurd_position_first_does_not_anchor_the_scan():
    mosaic = make_mosaic()
    went = mosaic.add(make_tiles([[np.nan, 0], [1e12, 0], [5, 5]], 1.0, 0.0))
    assert went.stitched.tolist() == [2]


def test_frames_are_reported_by_their_number():
    tiles = random_tiles(20, seed=3)
    tiles.indices[:] += 500
    tiles.amplitude[7] = np.nan
    tiles.positions_m[11] = np.nan
    went = make_mosaic().add(tiles)
    assert went.not_finite.tolist() == [507]
    assert went.outside.tolist() == [511]
    assert sorted([*went.stitched, 507, 511]) == list(range(500, 520))


def test_an_empty_batch_is_harmless():
    mosaic = make_mosaic()
    assert mosaic.add(make_tiles([], 1.0, 0.0)).stitched.size == 0
    assert mosaic.bounds() == (0, 0, 0, 0)
    assert mosaic.image("phase").shape == (0, 0)
    assert mosaic.object().shape == (0, 0)
    assert mosaic.agreement_mean() == mosaic.confidence_mean() == 0


def test_tiles_of_another_shape_than_the_weight_are_a_bug():
    mosaic = Mosaic(PIXEL_M, np.ones((6, 6), np.float32))
    with pytest.raises(ValueError, match="weight"):
        mosaic.add(random_tiles(1, seed=0))


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan)])
def test_a_weight_without_light_is_refused(bad):
    with pytest.raises(ValueError, match="weight"):
        Mosaic(PIXEL_M, bad.astype(np.float32))


def test_an_object_pixel_without_size_is_refused():
    with pytest.raises(ValueError, match="pixel"):
        Mosaic(0.0, WEIGHT)


def test_a_reader_learns_which_blocks_changed():
    mosaic = stitched(make_tiles([4, 4], 1.0, 0.0))
    before = mosaic.version
    assert mosaic.changed_since(0) == [(0, 0)]
    assert mosaic.changed_since(before) == []
    mosaic.add(make_tiles([-8, 12], 1.0, 0.0))
    assert mosaic.version > before
    assert sorted(mosaic.changed_since(before)) == [(-2, 1), (-1, 1)]


def test_blocks_put_together_are_the_image():
    mosaic = stitched(random_tiles(10, seed=4))
    y0, x0, y1, x1 = mosaic.bounds()
    canvas = np.zeros((128, 128), np.float32)
    for by, bx in mosaic.changed_since(0):
        at = (64 + by * 8, 64 + bx * 8)
        canvas[at[0] : at[0] + 8, at[1] : at[1] + 8] = mosaic.block(by, bx).phase
    np.testing.assert_array_equal(canvas[64 + y0 : 64 + y1, 64 + x0 : 64 + x1], mosaic.image("phase"))


def test_a_block_is_a_copy():
    mosaic = stitched(make_tiles([4, 4], 1.0, 0.0))
    before = mosaic.image("coverage")
    mosaic.block(0, 0).coverage[:] = 99
    np.testing.assert_array_equal(mosaic.image("coverage"), before)


def test_channels_share_a_shape_while_the_mosaic_grows():
    mosaic = stitched(make_tiles([0, 0], 1.0, 0.0))
    bounds = mosaic.bounds()
    mosaic.add(make_tiles([50, 50], 1.0, 0.0))
    assert mosaic.image("amplitude", bounds).shape == mosaic.object(bounds).shape == SHAPE


def test_the_mean_agreement_follows_every_batch():
    mosaic = stitched(make_tiles([0, 0], 1.0, 0.0))
    assert mosaic.agreement_mean() == pytest.approx(1)
    mosaic.add(make_tiles([0, 0], 1.0, np.pi / 2))
    assert mosaic.agreement_mean() == pytest.approx(np.sqrt(0.5), rel=1e-5)
    assert mosaic.agreement_mean() == pytest.approx(
        np.average(mosaic.image("agreement"), weights=mosaic.image("coverage")), rel=1e-5
    )


def test_partial_mosaics_add_up_to_the_whole():
    tiles = random_tiles(12, seed=5)
    left, right = stitched(some(tiles, slice(0, 5))), stitched(some(tiles, slice(5, 12)))
    before = left.version
    left.merge(right)
    left.merge(make_mosaic())
    assert_same(left, stitched(tiles))
    assert sorted(left.changed_since(before)) == sorted(right.changed_since(0))


def test_mosaics_of_another_grid_cannot_be_merged():
    with pytest.raises(ValueError, match="same object pixel"):
        make_mosaic().merge(Mosaic(2 * PIXEL_M, WEIGHT, block_px=8))


def test_a_merge_that_would_be_too_large_changes_nothing():
    small = stitched(make_tiles([4, 4], 1.0, 0.0), max_blocks=4)
    bounds = small.bounds()
    with pytest.raises(ValueError, match="4 blocks"):
        small.merge(stitched(make_tiles([90, 90], 1.0, 0.0)))
    assert small.bounds() == bounds


def test_readers_may_look_while_tiles_are_added():
    mosaic, tiles, done, seen = make_mosaic(), random_tiles(400, seed=6), threading.Event(), []

    def watch():
        while not done.is_set():
            seen.append(np.isfinite(mosaic.object()).all() and 0 <= mosaic.agreement_mean() <= 1)
            seen.extend(mosaic.block(*key).agreement.max() <= 1 for key in mosaic.changed_since(0))

    reader = threading.Thread(target=watch)
    reader.start()
    for start in range(0, 400, 16):
        mosaic.add(some(tiles, slice(start, start + 16)))
    done.set()
    reader.join()
    assert all(seen)
    assert_same(mosaic, stitched(tiles))
