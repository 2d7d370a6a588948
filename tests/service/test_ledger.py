import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger import Ledger

STAGES = ("decode", "join", "infer", "stitch")


def received(*indices, expected=None):
    ledger = Ledger(expected)
    for index in indices:
        ledger.receive(index)
    return ledger


def stitched(*indices, expected=None):
    ledger = received(*indices, expected=expected)
    for stage in STAGES:
        getattr(ledger, stage)(indices)
    return ledger


def test_a_whole_scan_is_balanced_and_nothing_is_dropped():
    ledger = stitched(*range(10), expected=10)
    ledger.close()
    counts = ledger.counts()
    assert counts.balanced
    assert counts.as_dict() == {
        "expected": 10,
        "received": 10,
        "decoded": 10,
        "joined": 10,
        "inferred": 10,
        "stitched": 10,
        "duplicates": 0,
        "dropped": {},
    }
    assert counts.in_words() == "10 of 10 frames stitched"


def test_a_second_copy_is_a_duplicate_and_not_a_drop():
    ledger = received(0, expected=1)
    assert not ledger.receive(0)
    ledger.stitch(0)
    assert not ledger.receive(0), "a copy of a frame that has already ended is a duplicate too"
    ledger.close()
    counts = ledger.counts()
    assert (counts.received, counts.duplicates, counts.dropped) == (3, 2, {})
    assert counts.balanced
    assert "2 frames came twice" in counts.in_words()


def test_frames_that_never_came_are_named_in_ranges():
    ledger = stitched(0, 1, 4, 6, expected=10)
    ledger.close()
    counts = ledger.counts()
    assert counts.dropped == {"never_arrived": 6}
    assert counts.never_arrived == ((2, 3), (5, 5), (7, 9))
    assert counts.in_words() == "4 of 10 frames stitched; 6 frames never arrived: 2–3, 5, 7–9"
    assert counts.balanced


def test_the_list_of_missing_frames_is_cut_at_its_limit():
    ledger = stitched(*range(1, 100, 2), expected=200)
    assert ledger.missing(2) == ((0, 0), (2, 2))
    assert ledger.missing(1000)[-1] == (100, 199)
    ledger.close()
    assert ledger.counts().in_words().endswith("12, 14 …")


def test_nothing_is_missing_from_a_scan_without_frames_or_expectation():
    ledger = Ledger(None)
    assert ledger.missing(3) == ()
    ledger.close()
    assert ledger.counts().expected == 0
    assert ledger.counts().balanced


def test_a_scan_of_unknown_length_expects_up_to_its_highest_frame():
    ledger = stitched(0, 3)
    assert ledger.counts().expected is None
    assert not ledger.counts().balanced
    assert ledger.counts().in_words() == "2 of ? frames stitched"
    ledger.close()
    assert ledger.counts().expected == 4
    assert ledger.counts().dropped == {"never_arrived": 2}


def test_a_frame_beyond_the_announced_number_raises_it_and_is_told():
    ledger = stitched(0, 1, 2, expected=2)
    ledger.close()
    counts = ledger.counts()
    assert (counts.expected, counts.announced) == (3, 2)
    assert "only 2 frames had been announced" in counts.in_words()
    assert counts.balanced


def test_the_number_may_be_announced_late_and_a_lower_one_does_not_hide_a_loss():
    ledger = stitched(0, 1, 2)
    ledger.expect(5)
    ledger.expect(4)
    ledger.close()
    assert ledger.counts().expected == 5
    assert ledger.counts().dropped == {"never_arrived": 2}


def test_a_later_announcement_that_covers_all_frames_takes_the_warning_back():
    ledger = stitched(0, 1, 2, expected=2)
    ledger.expect(3)
    assert ledger.counts().announced is None


def test_frames_left_without_an_ending_are_dropped_as_unfinished():
    ledger = received(0, 1, 2, expected=3)
    ledger.drop(1, "no_position")
    ledger.close()
    assert ledger.counts().dropped == {"no_position": 1, "unfinished": 2}
    assert ledger.counts().balanced


def test_a_second_end_message_changes_nothing():
    ledger = stitched(0, expected=2)
    ledger.close()
    before = ledger.counts()
    ledger.close()
    assert ledger.closed
    assert ledger.counts() == before


@pytest.mark.parametrize(
    ("ending", "again"),
    [("stitch", "stitch"), ("stitch", "drop"), ("drop", "stitch"), ("drop", "drop")],
)
def test_a_frame_ends_exactly_once(ending, again):
    def end(how):
        ledger.stitch(0) if how == "stitch" else ledger.drop(0, "outside")

    ledger = received(0)
    end(ending)
    with pytest.raises(ValueError, match="already ended"):
        end(again)


def test_a_frame_cannot_end_without_having_come():
    ledger = received(5)
    for never in (4, 6, -1, 10**12):
        with pytest.raises(ValueError, match="never received"):
            ledger.stitch(never)


def test_a_refused_call_leaves_the_ledger_as_it_was():
    ledger = received(0, 1)
    ledger.stitch(1)
    before = ledger.counts()
    with pytest.raises(ValueError, match="frame 1"):
        ledger.stitch([0, 1])
    with pytest.raises(ValueError, match="twice"):
        ledger.stitch([0, 0])
    assert ledger.counts() == before


def test_a_stage_is_passed_once():
    ledger = received(0)
    ledger.decode(0)
    with pytest.raises(ValueError, match="already passed"):
        ledger.decode(0)


def test_only_the_end_of_the_scan_knows_what_never_arrived():
    with pytest.raises(ValueError, match="close"):
        received(0).drop(0, "never_arrived")


def test_a_closed_ledger_takes_no_more_frames():
    ledger = Ledger(1)
    ledger.close()
    with pytest.raises(ValueError, match="closed"):
        ledger.receive(0)


def test_frame_numbers_are_not_negative():
    with pytest.raises(ValueError, match="negative"):
        Ledger(None).receive(-1)


def test_indices_may_be_a_number_a_list_an_array_or_nothing():
    ledger = received(0, 1, 2, 3)
    ledger.stitch(0)
    ledger.stitch(iter([1]))
    ledger.stitch(np.array([2, 3]))
    ledger.stitch([])
    ledger.drop([], "outside")
    assert ledger.counts().stitched == 4
    assert ledger.counts().dropped == {}


def test_a_forged_number_of_expected_frames_takes_no_memory():
    ledger = stitched(0, expected=2**50)
    ledger.close()
    assert ledger.counts().never_arrived == ((1, 2**50 - 1),)
    assert ledger.counts().balanced


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(["stitch", "drop", "lose"])), max_size=60))
def test_the_sums_hold_whatever_happens_to_the_frames(fates):
    ledger = Ledger(50)
    for index, fate in fates:
        fresh = ledger.receive(index)
        if fresh and fate == "stitch":
            ledger.stitch(index)
        elif fresh and fate == "drop":
            ledger.drop(index, "undecodable")
    ledger.close()
    counts = ledger.counts()
    assert counts.balanced
    assert counts.received == len(fates)
    assert counts.duplicates == len(fates) - len({index for index, _ in fates})


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_a_second_client_on_the_detector_shows_as_a_regular_gap(clients):
    ledger = Ledger(100)
    for index in range(0, 100, clients):
        ledger.receive(index)
    assert ledger.stride() == clients


def test_regular_gaps_show_in_the_middle_of_a_scan_once_enough_frames_have_come():
    ledger = Ledger(None)
    for index in range(0, 250, 2):
        ledger.receive(index)
    assert ledger.stride(newest=512) == 1
    for index in range(250, 300, 2):
        ledger.receive(index)
    assert ledger.stride(newest=512) == 2


def test_a_client_that_has_gone_is_forgotten_after_some_frames():
    ledger = Ledger(None)
    for index in [*range(0, 1000, 2), *range(1000, 1512)]:
        ledger.receive(index)
    assert ledger.stride(newest=512) == 1


def test_random_losses_are_no_regular_gap():
    ledger = Ledger(100)
    for index in np.flatnonzero(np.random.default_rng(1).random(100) < 0.5).tolist():
        ledger.receive(index)
    assert ledger.stride() == 1
