"""How often viewers are told of changes."""

from __future__ import annotations

import pytest

from service.web.pace import LONGEST_PERIOD_S, PERIOD_S, SHARE, Pace


def settled(pace, look_s, seconds=30.0):
    """Look at the mosaic for a while, each look taking so long of a processor; return the share spent."""
    now_s = busy_s = 0.0
    spent = []
    while now_s < seconds:
        busy_s += look_s
        now_s += pace.period_s
        spent.append((now_s, busy_s))
        pace.judge(busy_s, now_s)
    late = [each for each in spent if each[0] > seconds - 10]
    return (late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0])


def test_viewers_that_cost_little_are_told_at_the_shortest_period():
    pace = Pace(cores=2)
    assert settled(pace, look_s=0.0005) < SHARE * 2
    assert pace.period_s == PERIOD_S


@pytest.mark.parametrize("cores", [2, 8])
def test_many_viewers_come_to_cost_their_share_of_all_cores(cores):
    pace = Pace(cores)
    assert settled(pace, look_s=0.01 * cores / 2) == pytest.approx(SHARE * cores, rel=0.15)
    assert PERIOD_S < pace.period_s < LONGEST_PERIOD_S


def test_no_viewer_waits_longer_than_the_longest_period():
    pace = Pace(cores=1)
    settled(pace, look_s=0.5)
    assert pace.period_s == LONGEST_PERIOD_S


def test_when_the_crowd_has_gone_the_period_is_short_again():
    pace = Pace(cores=2)
    settled(pace, look_s=0.1)
    assert pace.period_s == LONGEST_PERIOD_S
    now_s, busy_s = 1000.0, 1000.0
    for _ in range(40):
        now_s += max(pace.period_s, 0.5)
        pace.judge(busy_s, now_s)
    assert pace.period_s == PERIOD_S
