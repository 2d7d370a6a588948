from dataclasses import replace

import numpy as np
import pytest

from model.bundle import TrustDescription
from training.judging.foretelling import AGREEMENT, CONFIDENCE, RESIDUAL, SPREAD
from training.judging.held_out_scans import ScanSeries
from training.judging.held_out_trust import judge_held_out
from training.judging.predictor import Predictor

EDGE = 16
SERIES = ScanSeries(frames=16, exposures=(0.5, 1.0))
TRUST = TrustDescription(residual=(0.1, 0.5), error_rad=((0.1, 0.05), (0.5, 0.8)), frame_counts=(1.0, 9.0))


def paints_nothing(counts):
    tiles = (len(counts), EDGE, EDGE)
    return np.ones(tiles, np.float32), np.zeros(tiles, np.float32)


@pytest.fixture
def model(probe):
    """A network that paints empty tiles and says nothing of them; it learned from no spokes."""
    return Predictor("flat", paints_nothing, probe, (32, 32), (EDGE, EDGE), None, {}, {}, ("spokes",))


def judged(model, objects=1, families=("spokes", "cells")):
    return list(judge_held_out(model, objects, families=families, series=SERIES))


def test_every_object_is_judged_and_exposures_take_turns(model):
    found = [(scan.family, scan.exposure, scan.shown) for scan in judged(model, 2)]
    assert found == [
        ("spokes", 0.5, False),
        ("cells", 1.0, True),
        ("spokes", 1.0, False),
        ("cells", 0.5, True),
    ]


def test_an_object_that_is_not_painted_is_the_error_itself(model):
    (scan,) = judged(model, families=("spokes",))
    assert scan.foretold.error_rad.blocks.max() > 0.05
    assert scan.foretold.doubts[AGREEMENT].frames == pytest.approx(0, abs=1e-6)
    assert scan.ways[0].phase_rms_rad == pytest.approx(scan.ways[1].phase_rms_rad)


def test_the_probe_tells_the_residual_of_a_network_that_does_not(model):
    (scan,) = judged(model, families=("spokes",))
    assert (scan.foretold.doubts[RESIDUAL].frames > 0).all()
    assert SPREAD not in scan.foretold.doubts


def test_a_calibration_is_found_once_and_makes_confidence_known(model):
    asked = []

    def calibrate():
        asked.append(1)
        return TRUST

    found = judged(replace(model, calibrate=calibrate))
    assert all(CONFIDENCE in scan.foretold.doubts for scan in found)
    assert len(asked) == 1


def test_no_objects_are_no_scans_even_without_a_probe(model):
    assert judged(replace(model, probe=None), 0) == []
    with pytest.raises(ValueError, match="flat knows no probe"):
        judged(replace(model, probe=None))
