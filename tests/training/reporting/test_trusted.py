from dataclasses import replace

import numpy as np
import pytest

from training.judging.foretelling import AGREEMENT, RESIDUAL, SHOWN, Doubt, Foretold
from training.judging.held_out_trust import HeldOutScan
from training.judging.stitching_gains import StitchingWay
from training.reporting.trusted import (
    calibration_picture,
    foretelling_figures,
    foretelling_table,
    held_out_figures,
    held_out_section,
    held_out_verdict,
    ways_table,
)

ERRORS_RAD = np.linspace(0.05, 0.5, 40)
WAYS = (StitchingWay("plain", 0.2, 0.9, 0.1, 0.05), StitchingWay("+ weight", 0.1, 0.95, None))


def foretold(**doubts):
    """Errors of forty frames and blocks, with what was said of each."""
    said = {AGREEMENT: ERRORS_RAD, **doubts}
    errors = Doubt(ERRORS_RAD, ERRORS_RAD)
    return Foretold(errors, Doubt(2 * ERRORS_RAD, 2 * ERRORS_RAD), {k: Doubt(v, v) for k, v in said.items()})


def noise(share):
    """Errors that are so far mixed with what has nothing to do with them."""
    return (1 - share) * ERRORS_RAD + share * np.random.default_rng(1).uniform(0, 0.5, ERRORS_RAD.shape)


def test_a_candidate_that_the_model_lacks_is_not_known():
    table = foretelling_table([foretold(**{SHOWN: -ERRORS_RAD})])
    rows = {name: cells for name, *cells in table.rows}
    assert rows[AGREEMENT] == ["1.00"] * 3
    assert rows[SHOWN] == ["-1.00"] * 3
    assert rows[RESIDUAL] == ["not known"] * 3
    assert f"Best of the mosaic here: {AGREEMENT}" in table.note


def test_an_amplitude_that_is_not_painted_has_no_error():
    rows = ways_table([WAYS, WAYS]).rows
    assert rows == [
        ("plain", "0.2000", "0.9000", "0.1000", "0.0500"),
        ("+ weight", "0.1000", "0.9500", "–", "–"),
    ]


@pytest.mark.parametrize(("share", "trust"), [(0.1, "good"), (0.6, "fair"), (1.0, "poor")])
def test_the_live_map_is_believed_as_far_as_it_ranks_errors(share, trust):
    said = held_out_verdict([foretold(**{SHOWN: noise(share)})])
    assert said.trust == trust
    assert f"Best is the {AGREEMENT}: 1.00" in said.reasons[0]


def test_the_verdict_says_whether_errors_are_as_large_as_expected():
    said = held_out_verdict([foretold(**{SHOWN: ERRORS_RAD})])
    assert "Nothing else ranks" in said.reasons[0]
    rms = np.sqrt(np.mean(ERRORS_RAD**2))
    assert f"By the live confidence map {2 * rms:.3f} rad RMS" in said.reasons[1]
    assert f"{rms:.3f} are found" in said.reasons[1]


def test_the_calibration_plot_is_an_image_inside_the_page():
    picture = calibration_picture([foretold(**{SHOWN: ERRORS_RAD})])
    assert picture.light.startswith("data:image/svg+xml")
    told = foretelling_figures([foretold(**{SHOWN: ERRORS_RAD})])
    curve = np.array(told["calibration"]["mosaic"])
    np.testing.assert_allclose(curve[:, 0], 2 * curve[:, 1])


def test_objects_shown_and_not_shown_are_told_apart():
    scan = HeldOutScan("cells", True, 1.0, foretold(**{SHOWN: ERRORS_RAD}), WAYS)
    strange = replace(scan, family="spokes", shown=False, foretold=foretold(**{SHOWN: -ERRORS_RAD}))
    groups = held_out_figures([scan, strange])["groups"]
    assert [group["scans"] for group in groups.values()] == [1, 1, 2]
    ranked = [{row["candidate"]: row["blocks"] for row in group["rankings"]} for group in groups.values()]
    assert [rows[SHOWN] for rows in ranked[:2]] == pytest.approx([-1, 1])
    section = held_out_section([scan, strange])
    assert len(section.tables) == 6
    assert len(held_out_section([scan]).tables) == 2
