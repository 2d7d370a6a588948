import itertools
from dataclasses import replace

import numpy as np
import pytest

from training.judging.evaluation import Painted
from training.judging.painted_scan import PaintedScan
from training.judging.stitching_gains import mean_ways, stitching_ways

EDGE, STEP, SIDE = 16, 4, 40
PLAIN = "plain mean, whole pixels"
WEIGHT = "+ weight: probe's light"
FINE = "+ fractions of a pixel"
ANGLES = "the same, angles averaged"
TURNED = "+ tiles turned to fit"
SETTLED = "turned to fit all others"


def phase_at(y, x):
    return 0.8 * np.sin(0.5 * x) + 0.6 * np.cos(0.4 * y)


def tiles_at(corners):
    y, x = np.mgrid[:EDGE, :EDGE]
    return np.stack([phase_at(y + top, x + left) for top, left in corners]).astype(np.float32)


def true_scan(side):
    """True tiles on whole pixels, under light that is brightest in the middle."""
    places = np.arange(1, side - EDGE, STEP)
    corners = np.array(list(itertools.product(places, places)), np.float64)
    rim = np.abs(np.arange(EDGE) - EDGE // 2) / EDGE
    y, x = np.mgrid[:side, :side]
    where = np.zeros((side, side), bool)
    where[4:-8, 4:-8] = True
    return PaintedScan(
        painted=Painted(np.ones((len(corners), EDGE, EDGE), np.float32), tiles_at(corners), 1.0),
        corners_px=corners,
        weight=np.exp(-8 * np.add.outer(rim**2, rim**2)).astype(np.float32),
        truth=np.exp(1j * phase_at(y, x)).astype(np.complex64),
        where=where,
    )


@pytest.fixture
def scan():
    return true_scan(SIDE)


def rms_rad(scan):
    return {way.name: way.phase_rms_rad for way in stitching_ways(scan)}


def with_phases(scan, phase_rad):
    return replace(scan, painted=replace(scan.painted, phase_rad=phase_rad.astype(np.float32)))


def test_true_tiles_need_no_care(scan):
    ways = stitching_ways(scan)
    assert max(way.phase_rms_rad for way in ways) < 1e-3
    assert min(way.phase_correlation for way in ways) > 0.999
    assert max(way.amplitude_rms for way in ways) < 1e-5


def test_the_probe_s_light_leaves_out_what_a_dark_rim_paints(scan):
    noise = np.random.default_rng(2).normal(size=scan.painted.phase_rad.shape) * (1 - scan.weight)
    errors = rms_rad(with_phases(scan, scan.painted.phase_rad + 2 * noise))
    assert errors[WEIGHT] < 0.8 * errors[PLAIN]


def test_fractions_of_a_pixel_are_worth_something_where_positions_have_them(scan):
    corners = scan.corners_px + np.random.default_rng(3).uniform(-0.49, 0.49, scan.corners_px.shape)
    between = with_phases(replace(scan, corners_px=corners), tiles_at(corners))
    errors = rms_rad(between)
    assert errors[FINE] < 0.8 * errors[WEIGHT]
    assert list(rms_rad(scan)) == [PLAIN, WEIGHT, ANGLES, TURNED, SETTLED]


def test_angles_break_where_the_phase_wraps(scan):
    wrapped = np.angle(np.exp(1j * (scan.painted.phase_rad + 2.5)))
    turns = 2 * np.pi * (np.arange(len(wrapped)) % 2)[:, None, None]
    errors = rms_rad(with_phases(scan, wrapped + turns))
    assert errors[WEIGHT] < 1e-3
    assert errors[ANGLES] > 0.5


def test_tiles_of_unknown_phase_are_turned_onto_each_other(scan):
    unknown = np.random.default_rng(4).uniform(-1, 1, len(scan.corners_px))
    errors = rms_rad(with_phases(scan, scan.painted.phase_rad + unknown[:, None, None]))
    assert errors[WEIGHT] > 0.1
    assert errors[TURNED] < 1e-3
    assert errors[SETTLED] < 0.5 * errors[WEIGHT]


def test_ramps_add_up_along_the_scan_unless_each_tile_is_turned_to_fit_all_others():
    scan = true_scan(2 * SIDE)  # larger than the rounds reach
    ramp = 0.02 * (np.arange(EDGE) - EDGE // 2)
    errors = rms_rad(with_phases(scan, scan.painted.phase_rad + ramp))
    assert errors[TURNED] > 1.1 * errors[SETTLED]


def test_a_network_of_phase_only_has_no_error_of_amplitude(scan):
    ways = stitching_ways(replace(scan, painted=replace(scan.painted, amplitude=None)))
    assert all(way.amplitude_rms is None for way in ways)
    assert mean_ways([ways, ways]) == ways


def test_each_mosaic_is_judged_once_more_when_it_was_refined(scan):
    plain = {way.name: way for way in stitching_ways(scan)}
    refined = stitching_ways(scan, lambda start: np.where(scan.where, scan.truth, start))
    assert all(way.refined_phase_rms_rad is None for way in plain.values())
    assert max(way.refined_phase_rms_rad for way in refined) < 1e-6
    assert {way.name: way.phase_rms_rad for way in refined} == rms_rad(scan)


def test_the_ways_of_several_scans_are_averaged_one_by_one(scan):
    once = stitching_ways(scan)
    worse = tuple(replace(way, phase_rms_rad=way.phase_rms_rad + 1) for way in once)
    for way, mean in zip(once, mean_ways([once, worse]), strict=True):
        assert mean.name == way.name
        assert mean.phase_rms_rad == pytest.approx(way.phase_rms_rad + 0.5)
