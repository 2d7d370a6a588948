"""Encoder samples become the positions of frames, whatever packets they come in."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import MessageError
from service.wire.encoder_samples import EncoderFields, FrameAverager, Samples, matching, named

FRAMES, A_FRAME = 12, 5
COUNTED = EncoderFields(frame="COUNTER1.OUT", first_frame=1)
NUMBERED = EncoderFields(samples=A_FRAME)


def stage_m(sample):
    """Where the stage is at a sample: it goes along x, and steps in y."""
    return np.stack([sample // A_FRAME * 1e-6, sample * 1e-8], axis=-1)


def packet(first, stop):
    """The samples of a capture in which every frame has `A_FRAME` of them, and a counter that begins at 1."""
    numbers = np.arange(first, stop)
    return Samples(first, stage_m(numbers), (numbers // A_FRAME + 1).astype(float))


def packets(cuts):
    return [packet(*ends) for ends in pairwise([0, *cuts, FRAMES * A_FRAME])]


def averager(fields, max_frames=1000):
    return FrameAverager(fields, max_frames)


def place(positions):
    """Each frame's first position, by its number, as the joiner takes them."""
    found = {}
    for told in positions:
        for frame, row in enumerate(told.positions_m, told.first):
            found.setdefault(frame, tuple(row))
    return found


def placed(fields, arrival):
    means = averager(fields)
    if fields.frame is None:
        arrival = [Samples(one.first, one.positions_m) for one in arrival]
    return place([told for one in arrival for told in means.add(one)] + means.flush())


def near(found):
    return {frame: pytest.approx(position_m) for frame, position_m in found.items()}


def mean_m(frame, samples=range(A_FRAME)):
    return tuple(np.mean([stage_m(np.array(frame * A_FRAME + sample)) for sample in samples], axis=0))


@pytest.mark.parametrize("fields", [NUMBERED, COUNTED], ids=["numbered", "counted by a field"])
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, FRAMES * A_FRAME - 1), unique=True, max_size=20).map(sorted))
def test_the_position_of_a_frame_is_the_mean_of_its_samples_wherever_packets_are_cut(fields, cuts):
    found = placed(fields, packets(cuts))
    assert sorted(found) == list(range(FRAMES))
    for frame, position_m in found.items():
        assert position_m == pytest.approx(mean_m(frame))


def test_one_sample_a_frame_is_the_position_to_the_last_bit():
    samples_m = np.random.default_rng(1).normal(size=(40, 2))
    (told,) = averager(EncoderFields()).add(Samples(7, samples_m))
    assert told.first == 7
    assert np.array_equal(told.positions_m, samples_m)


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_packets_in_any_order_give_the_same_positions(arrival):
    ordered = packets([13, 27, 48])
    means = FrameAverager(NUMBERED, 1000)
    numbered = [Samples(ordered[i].first, ordered[i].positions_m) for i in arrival]
    waiting = [told for one in numbered for told in means.add(one)] + means.flush()
    assert sorted(place(waiting)) == list(range(FRAMES))
    last = {told.first + i: row for told in waiting for i, row in enumerate(told.positions_m)}
    whole = [frame for frame in last if tuple(last[frame]) == pytest.approx(mean_m(frame))]
    assert len(whole) >= FRAMES - 3  # at most the frames that three borders cut


@pytest.mark.parametrize("fields", [NUMBERED, COUNTED], ids=["numbered", "counted by a field"])
def test_two_neighbouring_packets_that_change_places_change_no_position(fields):
    first, second, third, fourth = packets([13, 27, 48])
    changed = placed(fields, [first, third, second, fourth])
    assert changed == near(placed(fields, [first, second, third, fourth]))


@pytest.mark.parametrize("fields", [NUMBERED, COUNTED], ids=["numbered", "counted by a field"])
def test_a_packet_that_comes_twice_changes_no_position(fields):
    ordered = packets([13, 27, 48])
    twice = [one for one in ordered for _ in range(2)]
    assert placed(fields, twice) == near(placed(fields, ordered))


@pytest.mark.parametrize("fields", [NUMBERED, COUNTED], ids=["numbered", "counted by a field"])
def test_a_lost_packet_costs_only_the_frames_that_lay_in_it_whole(fields):
    first, _, third, fourth = packets([13, 27, 48])  # samples 13 to 26 are lost: of frames 2, 3, 4 and 5
    found = placed(fields, [first, third, fourth])
    assert sorted(set(range(FRAMES)) - set(found)) == [3, 4]
    assert found[2] == pytest.approx(mean_m(2, [0, 1, 2]))
    assert found[5] == pytest.approx(mean_m(5, [2, 3, 4]))
    assert found[6] == pytest.approx(mean_m(6))


def test_a_frame_that_lost_samples_is_placed_when_packets_are_in_order_again_not_at_the_end():
    first, _, third, fourth = (Samples(one.first, one.positions_m) for one in packets([13, 27, 48]))
    means = averager(NUMBERED)
    before = place(means.add(first) + means.add(third))
    assert not {2, 5} & set(before)
    assert {2, 5} <= set(place(means.add(fourth)))


def test_a_sample_that_is_no_number_leaves_its_frame_to_the_others():
    broken = packet(0, FRAMES * A_FRAME)
    broken.positions_m[11] = np.nan
    broken.positions_m[12, 0] = np.inf
    broken.positions_m[13, 1] = 1e300
    found = placed(NUMBERED, [broken])
    assert sorted(found) == list(range(FRAMES))
    assert found[2] == pytest.approx(mean_m(2, [0, 4]))


@pytest.mark.parametrize("counter", [-5.0, 0.0, 1e300, np.nan, np.inf, 1001.0])
def test_a_counter_that_names_no_possible_frame_is_left_out(counter):
    means = averager(COUNTED)
    told = means.add(Samples(0, np.zeros((3, 2)), np.array([1.0, counter, 2.0]))) + means.flush()
    assert sorted(place(told)) == [0, 1]


def test_a_counter_that_jumps_leaves_a_gap_and_shifts_nothing():
    means = averager(COUNTED)
    jumps = np.array([1.0, 2.0, 5.0, 6.0, 9.0])
    told = means.add(Samples(0, np.stack([jumps, jumps], axis=1), jumps)) + means.flush()
    assert place(told) == {frame: (frame + 1.0, frame + 1.0) for frame in (0, 1, 4, 5, 8)}


def test_endless_pieces_of_frames_take_no_endless_memory():
    means = averager(EncoderFields(samples=2), max_frames=1 << 24)
    told = [one for n in range(2500) for one in means.add(Samples(20_000 - 4 * n, np.zeros((1, 2))))]
    assert len(told) >= 2500 - 1025
    assert len(means.flush()) <= 1024


CAPTURED = ["/COUNTER1.OUT.Value", "/INENC1.VAL.Min", "/INENC1.VAL.Mean", "/INENC2.VAL.Value"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("INENC1.VAL", "/INENC1.VAL.Mean"),
        ("/INENC1.VAL", "/INENC1.VAL.Mean"),
        ("INENC1.VAL.Min", "/INENC1.VAL.Min"),
        ("INENC2.VAL", "/INENC2.VAL.Value"),
        ("INENC3.VAL", None),
        ("INENC", None),
    ],
)
def test_a_field_is_meant_with_or_without_its_capture(name, meant):
    assert matching(name, CAPTURED) == meant


def test_a_field_that_is_not_captured_is_told_with_those_that_are():
    with pytest.raises(MessageError, match=r"positions_x = INENC9\.VAL is not captured.*INENC2\.VAL\.Value"):
        named(EncoderFields(y="INENC1.VAL", x="INENC9.VAL"), CAPTURED)
    with pytest.raises(MessageError, match="positions_y is not told"):
        named(EncoderFields(), CAPTURED)
