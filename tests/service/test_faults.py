"""Faults of a stream: what was asked for is what comes."""

from collections import Counter

import pytest

from service.errors import ConfigError
from service.faults import LATE_BY_MESSAGES, Faults

MESSAGES = list(range(5000))


def test_without_faults_the_stream_is_untouched():
    assert list(Faults().applied(MESSAGES)) == MESSAGES


def test_dropped_messages_never_arrive_and_the_others_keep_their_order():
    arrived = list(Faults(drop=0.1).applied(MESSAGES))
    assert arrived == sorted(set(arrived))
    assert 0.08 < 1 - len(arrived) / len(MESSAGES) < 0.12


def test_duplicated_messages_arrive_twice_in_a_row():
    arrived = Counter(Faults(dup=0.1).applied(MESSAGES))
    assert set(arrived) == set(MESSAGES)
    assert set(arrived.values()) == {1, 2}
    assert 0.08 < sum(count == 2 for count in arrived.values()) / len(MESSAGES) < 0.12


def test_reordered_messages_change_places_with_the_next_and_none_is_lost():
    arrived = list(Faults(reorder=0.1).applied(MESSAGES))
    assert sorted(arrived) == MESSAGES
    moved = [message - place for place, message in enumerate(arrived) if message > place]
    assert 0.07 < len(moved) / len(MESSAGES) < 0.12
    assert max(moved) <= 5


def test_late_messages_arrive_later_but_before_the_end():
    arrived = list(Faults(late=0.1).applied(MESSAGES))
    assert sorted(arrived) == MESSAGES
    delays = [place - message for place, message in enumerate(arrived)]
    assert max(delays) <= LATE_BY_MESSAGES
    assert 0.08 < sum(delay > LATE_BY_MESSAGES / 2 for delay in delays) / len(MESSAGES) < 0.12


def test_a_reordered_last_message_still_arrives():
    assert sorted(Faults(reorder=1.0).applied([1, 2, 3])) == [1, 2, 3]


def test_the_same_seed_makes_the_same_faults_and_another_one_others():
    faults = Faults(drop=0.1, dup=0.1, reorder=0.1, late=0.1, seed=4)
    assert list(faults.applied(MESSAGES)) == list(faults.applied(MESSAGES))
    other = Faults(drop=0.1, dup=0.1, reorder=0.1, late=0.1, seed=5)
    assert list(faults.applied(MESSAGES)) != list(other.applied(MESSAGES))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", Faults()),
        ("drop=0.01,dup=0.02,reorder=0.05,late=0.1", Faults(0.01, 0.02, 0.05, 0.1)),
        ("late=1", Faults(late=1.0)),
        (" drop=0.5, seed=7", Faults(drop=0.5, seed=7)),
    ],
)
def test_faults_are_read_from_one_line(text, faults):
    assert Faults.parse(text) == faults


NONSENSE = (
    "drop drop= drop=x lose=0.1 drop=0.1,drop=0.1 drop=-1 drop=2 drop=nan drop=0.6,dup=0.6 "
    "seed=1.5 seed=inf =1"
)


@pytest.mark.parametrize("text", NONSENSE.split())
def test_faults_that_make_no_sense_are_told_with_an_example(text):
    with pytest.raises(ConfigError, match=r"drop=0\.01"):
        Faults.parse(text)
