import itertools
from dataclasses import replace

import numpy as np
import pytest

from model.bundle import TrustDescription
from training.judging.evaluation import Painted
from training.judging.foretelling import (
    AGREEMENT,
    CANDIDATES,
    CONFIDENCE,
    RADIUS,
    RESIDUAL,
    SHOWN,
    SPREAD,
    block_means,
    calibration_curve,
    foretell,
    rank,
)
from training.judging.painted_scan import PaintedScan

EDGE, STEP, SIDE = 16, 4, 48
TRUST = TrustDescription(residual=(0.01, 0.02), error_rad=((0.01, 0.02), (0.5, 0.8)), frame_counts=(1.0, 9.0))


@pytest.fixture(scope="module")
def corners():
    places = np.arange(0, SIDE - EDGE + 1, STEP)
    return np.array(list(itertools.product(places, places)), np.float64)


@pytest.fixture(scope="module")
def scan(corners):
    """Tiles of a phase object that err the more the farther right they lie, each saying how much."""
    rng = np.random.default_rng(5)
    y, x = np.indices((SIDE, SIDE))
    truth_rad = 0.5 * np.sin(0.3 * x) * np.cos(0.2 * y)
    level = 0.02 + 0.5 * corners[:, 1] / SIDE
    cut = np.stack([truth_rad[y : y + EDGE, x : x + EDGE] for y, x in corners.astype(int)])
    noise = level[:, None, None] * rng.normal(size=cut.shape)
    painted = Painted(
        amplitude=np.ones_like(cut, dtype=np.float32),
        phase_rad=(cut + noise).astype(np.float32),
        seconds=1.0,
        spread_rad=np.broadcast_to(level[:, None, None], cut.shape).astype(np.float32),
        residual=level.astype(np.float32),
        radius=np.broadcast_to(1 - level[:, None, None], cut.shape).astype(np.float32),
    )
    return PaintedScan(
        painted=painted,
        corners_px=corners,
        weight=np.ones((EDGE, EDGE), np.float32),
        truth=np.exp(1j * truth_rad).astype(np.complex64),
        where=np.ones((SIDE, SIDE), bool),
    )


def test_what_goes_with_the_error_ranks_frames_and_mosaic(scan):
    for found in rank([foretell(scan, TRUST)]):
        assert found.frames > 0.9, found
        assert found.blocks > 0.6, found
        assert found.blocks_within == found.blocks


def test_what_goes_against_the_error_ranks_it_backwards(scan):
    sure = replace(scan.painted, spread_rad=1 - scan.painted.spread_rad)
    rankings = {r.candidate: r for r in rank([foretell(replace(scan, painted=sure), None)])}
    assert rankings[SPREAD].frames < -0.9
    assert rankings[SPREAD].blocks < -0.6


def test_what_a_network_does_not_say_is_not_known(scan):
    silent = replace(scan.painted, spread_rad=None, residual=None, radius=None)
    rankings = {r.candidate: r for r in rank([foretell(replace(scan, painted=silent), TRUST)])}
    assert list(rankings) == list(CANDIDATES)
    for name in (RESIDUAL, RADIUS, SPREAD, CONFIDENCE):
        assert (rankings[name].frames, rankings[name].blocks) == (None, None)
    assert rankings[AGREEMENT].blocks > 0.6


def test_tiles_without_confidence_leave_the_live_map_to_their_agreement(scan):
    silent = replace(scan, painted=replace(scan.painted, spread_rad=None))
    doubts = foretell(silent, None).doubts
    np.testing.assert_array_equal(doubts[SHOWN].blocks, doubts[AGREEMENT].blocks)
    np.testing.assert_array_equal(doubts[SHOWN].frames, doubts[AGREEMENT].frames)


def test_the_live_map_doubts_what_either_tiles_or_their_agreement_doubt(scan):
    doubts = foretell(scan, TRUST).doubts
    for part in (AGREEMENT, CONFIDENCE):
        assert (doubts[SHOWN].blocks >= doubts[part].blocks - 1e-6).all()
        assert (doubts[SHOWN].frames >= doubts[part].frames - 1e-2).all()


def test_one_candidate_is_known_of_several_scans_only_if_of_each(scan):
    without = replace(scan, painted=replace(scan.painted, radius=None))
    rankings = {r.candidate: r for r in rank([foretell(scan, TRUST), foretell(without, TRUST)])}
    assert rankings[RADIUS].frames is None
    assert rankings[RESIDUAL].frames > 0.9


def test_a_residual_that_never_differs_ranks_nothing(scan):
    alike = replace(scan.painted, residual=np.full(len(scan.corners_px), 0.2, np.float32))
    rankings = {r.candidate: r for r in rank([foretell(replace(scan, painted=alike), None)])}
    assert rankings[RESIDUAL].frames is None


def test_the_error_to_expect_is_that_of_normal_errors_as_wide_as_the_live_map_says(scan):
    found = foretell(scan, TRUST)
    said, expected = found.doubts[SHOWN], found.expected_rad
    np.testing.assert_allclose(np.exp(-np.square(expected.frames) / 2), 1 - said.frames, rtol=1e-6)
    np.testing.assert_allclose(np.exp(-np.square(expected.blocks) / 2), 1 - said.blocks, rtol=1e-6)


def test_frames_that_are_explained_as_in_calibration_leave_the_live_map_to_their_agreement(scan):
    roomy = TrustDescription(residual=(0.1, 0.6), error_rad=TRUST.error_rad, frame_counts=TRUST.frame_counts)
    doubts = foretell(scan, roomy).doubts
    np.testing.assert_allclose(doubts[SHOWN].blocks, doubts[AGREEMENT].blocks)


def test_one_phase_of_the_whole_mosaic_is_no_error(scan):
    turned = replace(scan.painted, phase_rad=scan.painted.phase_rad + np.float32(2.0))
    plain, found = foretell(scan, TRUST), foretell(replace(scan, painted=turned), TRUST)
    np.testing.assert_allclose(found.error_rad.blocks, plain.error_rad.blocks, atol=1e-4)
    np.testing.assert_allclose(found.error_rad.frames, plain.error_rad.frames, atol=1e-4)


def test_tiles_between_pixels_are_judged_where_they_lie(scan):
    between = replace(scan, corners_px=scan.corners_px + 0.25)
    found = foretell(between, TRUST)
    assert len(found.error_rad.blocks) == (SIDE // 4) ** 2
    assert found.error_rad.frames.shape == (len(scan.corners_px),)


def test_a_calibration_curve_has_bins_of_equally_many_in_the_order_expected():
    expected = np.linspace(0.1, 1.0, 50)
    curve = calibration_curve(expected[::-1], 2 * expected[::-1])
    assert curve.shape == (10, 2)
    assert (np.diff(curve[:, 0]) > 0).all()
    np.testing.assert_allclose(curve[:, 1], 2 * curve[:, 0])


def test_blocks_that_are_not_lit_whole_are_left_out():
    image, where = np.arange(64.0).reshape(8, 8), np.ones((8, 8), bool)
    where[0, 0] = False
    np.testing.assert_array_equal(block_means(image, where, 4), [image[:4, 4:].mean(), 45.5, 49.5])
    with pytest.raises(ValueError, match="lit whole"):
        block_means(image, np.zeros((8, 8), bool), 4)
