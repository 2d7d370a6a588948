"""What may be wrong with a scan, as the page's row of lamps."""

from __future__ import annotations

import numpy as np
import pytest

from service.web.lamps import lamps
from service.web.recent import RecentFrames


def report(**changed):
    ledger = {"joined": 100, "dropped": changed.pop("dropped", {})}
    return {"finished": None, "missing": [], "trust": {"state": "good"}, "ledger": ledger, **changed}


def lit(told, queues=None, recent=None):
    """The lamps that alarm: what about, and the sentence."""
    shown = lamps(told, queues or {}, recent)
    return {lamp["about"]: lamp["line"] for lamp in shown if lamp["state"] == "alarm"}


def test_a_good_scan_lights_no_lamp():
    assert lit(report()) == {}
    assert lamps(None, {}, None) == []


@pytest.mark.parametrize(
    ("missing", "finished", "line"),
    [
        ([[101, 103]], None, "3 frames are missing so far: 101–103"),
        ([[101, 103], [200, 200]], "now", "4 frames never arrived: 101–103, 200"),
        ([[7, 7]], "now", "1 frame never arrived: 7"),
    ],
)
def test_missing_frames_are_named(missing, finished, line):
    assert lit(report(missing=missing, finished=finished)) == {"frames": line}


def test_frames_without_positions_light_a_lamp():
    assert lit(report(), {"join": 20}) == {}
    assert lit(report(), {"join": 300}) == {"positions": "300 frames wait for their positions"}
    assert "30 frames were dropped" in lit(report(dropped={"no_position": 30}))["positions"]


def test_a_model_out_of_its_range_lights_a_lamp():
    assert "exposure" in lit(report(trust={"state": "exposure"}))["model"]
    assert "does not explain" in lit(report(trust={"state": "residual"}))["model"]


def test_saturated_frames_are_counted_and_masked_pixels_are_not():
    recent = RecentFrames("star", 1 << 20, invalid_counts=65535, saturation=1000)
    counts = np.zeros((4, 8, 8), np.uint16)
    counts[:, 0, 0], counts[2, 3, 3] = 65535, 1000
    recent.add(np.arange(4), np.zeros((4, 2)), counts)
    assert lit(report(), recent=recent) == {"saturation": "1 of 4 frames hold pixels of 1000 counts or more"}


def test_without_a_known_saturation_the_lamp_knows_nothing():
    recent = RecentFrames("star", 1 << 20, invalid_counts=65535)
    states = {lamp["about"]: lamp["state"] for lamp in lamps(report(), {}, recent)}
    assert states["saturation"] == "unknown"
