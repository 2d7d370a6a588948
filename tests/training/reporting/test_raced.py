import math

import pytest

from model.judge import Likeness
from training.judging.against_time import Resemblance, Standing, TimedWay
from training.judging.stopwatch import Spent
from training.reporting.raced import beside_table, race_figures, race_pictures, race_tables


def alike(correlation, half_bit_px=4.0):
    return Resemblance(Likeness(0.1, correlation, 0.1, 0.5, 100), half_bit_px)


def standing(seconds, residual, correlation):
    return Standing(Spent(seconds, seconds / 2), 3, residual, {"object": alike(correlation)})


@pytest.fixture(scope="module")
def ways():
    return (
        TimedWay("network", (standing(2.0, 0.12, 0.9),)),
        TimedWay("slow", (standing(1.0, 0.2, 0.3), standing(8.0, 0.11, 0.8))),
        TimedWay("fast", (standing(1.0, 0.1, 0.95), standing(8.0, 0.09, 0.99))),
    )


def test_a_way_catches_up_at_its_first_stop_that_is_as_good(ways):
    catching_up, _ = race_tables(ways, 1e-9, threads=1)
    late, early = "8.0 s (4.0 s of the processor)", "1.0 s (0.5 s of the processor)"
    assert catching_up.rows == [("slow", late, "not in 8 s"), ("fast", early, early)]
    assert "2.0 s" in catching_up.title


def test_every_stop_is_a_row_with_its_detail_in_nanometres(ways):
    _, table = race_tables(ways, 1e-9, threads=2)
    assert len(table.rows) == 5
    assert table.rows[0] == ("network", "2.0", "1.0", "3", "0.1200", "0.9000", "0.1000", "4")
    assert "2 threads" in table.note
    assert "itself an iterative reconstruction" in table.note


def test_there_is_a_curve_for_the_residual_and_for_each_reference(ways):
    assert [picture.title for picture in race_pictures(ways)] == [
        "Forward residual against time",
        "Phase correlation with object against time",
    ]
    assert race_pictures(()) == []


def test_a_scan_without_reference_is_judged_by_its_frames():
    blind = (
        TimedWay("network", (Standing(Spent(2.0, 2.0), 1, 0.1, {}),)),
        TimedWay("x", (Standing(Spent(1.0, 1.0), 1, 0.1, {}),)),
    )
    catching_up, table = race_tables(blind, 1e-9, threads=1)
    assert catching_up.header == ("way", "residual")
    assert table.rows[0] == ("network", "2.0", "2.0", "1", "0.1000")


def test_detail_that_is_nowhere_above_half_a_bit_is_no_number():
    table = beside_table({"mosaic": {"object": alike(0.2, math.inf)}}, 1e-9)
    assert table.rows == [("mosaic", "0.2000", "0.1000", "–")]
    told = race_figures((TimedWay("x", (Standing(Spent(), 1, 0.1, {"object": alike(0.2, math.inf)}),)),))
    assert told[0]["stops"][0]["beside"]["object"]["half_bit_px"] is None
