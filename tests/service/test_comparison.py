"""A mosaic judged by the measured star's reference: what is right scores high, what is wrong does not."""

from pathlib import Path

import numpy as np
import pytest

import service
from model.bundle import Bundle
from model.geometry import probe_weight
from model.scans import open_scan
from service.comparison import compare, side_by_side
from service.messages import Tiles
from service.mosaic import Mosaic

STAR = Path(service.__file__).with_name("data") / "siemens_star_aps.cxi"
TILE = 80
SOME = np.arange(0, 516, 2)


@pytest.fixture(scope="module")
def reference():
    with open_scan(STAR) as scan:
        return scan.reference(), scan.positions_m


def painted(reference, turned=1.0):
    """Return a mosaic of true tiles, cut from the reference and placed by their positions in metres."""
    truth, positions_m = reference
    weight = probe_weight(truth.probe, (TILE, TILE))
    mosaic = Mosaic(truth.object_pixel_m, weight)
    corners = np.round(truth.positions_px[SOME]).astype(int) + (128 - TILE) // 2
    cut = np.stack([truth.object[y : y + TILE, x : x + TILE] for y, x in corners]) * turned
    unit = cut / np.abs(cut)
    # the tiles were cut at whole pixels: that is where they belong
    shift_m = (np.round(truth.positions_px[SOME]) - truth.positions_px[SOME]) * truth.object_pixel_m
    where_m = positions_m[SOME] + shift_m
    mosaic.add(Tiles("star", SOME, where_m, np.abs(cut), unit.real, unit.imag, np.zeros(len(SOME), np.int64)))
    return mosaic


def judged(mosaic, reference):
    bundle = Bundle(Path(), None, reference[0].probe)
    return compare(mosaic, bundle, STAR, SOME)


@pytest.mark.parametrize("turned", [1.0, np.exp(2.5j)])
def test_true_tiles_score_high_whatever_their_common_phase(reference, turned):
    found = judged(painted(reference, turned), reference)
    assert found.likeness.phase_correlation > 0.99
    assert found.likeness.phase_rms_rad < 0.05
    assert found.residuals["mosaic"] < found.residuals["empty"] / 1.5
    assert found.residuals["mosaic"] >= found.residuals["reference"]


def test_a_conjugate_mosaic_is_found_out(reference):
    truth, positions_m = reference
    twin = type(truth)(
        truth.object.conj(), truth.probe, truth.coverage, truth.positions_px, truth.object_pixel_m
    )
    found = judged(painted((twin, positions_m)), reference)
    assert found.likeness.phase_correlation < -0.9
    assert found.residuals["mosaic"] > found.residuals["empty"]


def test_the_picture_shows_reference_and_mosaic_beside_each_other(reference):
    found = judged(painted(reference), reference)
    picture = side_by_side(found)
    rows, columns = (np.flatnonzero(found.where.any(axis=axis)) for axis in (1, 0))
    assert picture.size == (2 * (np.ptp(columns) + 1) + 8, 2 * (np.ptp(rows) + 1) + 8)


def test_a_mosaic_that_lies_elsewhere_cannot_be_compared(reference):
    truth, _ = reference
    mosaic = Mosaic(truth.object_pixel_m, np.ones((TILE, TILE), np.float32))
    plane = np.ones((1, TILE, TILE), np.float32)
    zero = np.zeros_like(plane)
    mosaic.add(Tiles("star", np.array([0]), np.array([[1e-3, 1e-3]]), plane, plane, zero, np.array([0])))
    with pytest.raises(ValueError, match="no pixel to compare"):
        judged(mosaic, reference)
