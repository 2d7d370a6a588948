from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MessageError
from service.join import Joiner
from service.messages import Image, Positions


def image(index):
    return Image("scan", index, np.full((2, 2), index, np.uint16), received_ns=1000 + index)


def positions(first, *rows):
    return Positions("scan", first, np.array(rows, np.float64).reshape(-1, 2))


def place(index):
    return (index * 1e-6, -index * 2e-6)


def joiner(deadline_s=1.0, max_waiting=100, max_frames=10_000):
    return Joiner(deadline_s, max_waiting, max_frames)


def deliver(join, message, now_s=0.0):
    if isinstance(message, Positions):
        return join.add_positions(message)
    frame = join.add_image(message, now_s)
    return [] if frame is None else [frame]


def summary(frames):
    return {(f.index, f.y_m, f.x_m, f.received_ns, int(f.counts[0, 0])) for f in frames}


def whole(*indices):
    return {(i, *place(i), 1000 + i, i) for i in indices}


MESSAGES = (
    image(0),
    image(1),
    image(3),  # the image of frame 2 is lost
    positions(0, place(0), place(1)),
    positions(2, place(2), place(3)),
)


@pytest.mark.parametrize("arrival", list(permutations(MESSAGES)))
def test_frames_pair_by_number_in_any_order(arrival):
    join = joiner()
    frames = [frame for message in arrival for frame in deliver(join, message)]
    assert summary(frames) == whole(0, 1, 3)
    assert len(frames) == 3
    assert join.waiting == 0


@given(st.permutations([message for i in range(30) for message in (image(i), positions(i, place(i)))]))
def test_one_position_a_message_in_any_order_gives_the_same_frames(arrival):
    join = joiner()
    frames = [frame for message in arrival for frame in deliver(join, message)]
    assert summary(frames) == whole(*range(30))


def test_the_planned_positions_of_the_whole_scan_place_each_image_at_once():
    join = joiner()
    assert join.add_positions(positions(0, *map(place, range(5000)))) == []
    frame = join.add_image(image(4999), 0.0)
    assert (frame.y_m, frame.x_m) == place(4999)


def test_a_lost_position_packet_stalls_only_its_own_frames():
    join = joiner()
    for index in range(4):
        join.add_image(image(index), 0.0)
    frames = join.add_positions(positions(0, place(0))) + join.add_positions(positions(2, place(2), place(3)))
    assert [frame.index for frame in frames] == [0, 2, 3]
    assert join.waiting == 1


def test_a_late_position_within_the_deadline_still_gets_its_tile():
    join = joiner(deadline_s=1.0)
    join.add_image(image(7), now_s=10.0)
    assert join.expire(now_s=10.9) == []
    (frame,) = join.add_positions(positions(7, place(7)))
    assert frame.index == 7
    assert join.expire(now_s=99.0) == []


def test_an_image_whose_position_did_not_come_in_time_is_given_up_once():
    join = joiner(deadline_s=1.0)
    join.add_image(image(0), now_s=10.0)
    join.add_image(image(1), now_s=10.5)
    assert [late.index for late in join.expire(now_s=11.0)] == [0]
    assert join.expire(now_s=11.0) == []
    assert join.add_positions(positions(0, place(0))) == []
    assert join.waiting == 1


def test_the_oldest_images_are_given_up_when_too_many_wait():
    join = joiner(max_waiting=3)
    for index in (4, 3, 2, 1, 0):
        join.add_image(image(index), now_s=0.0)
    assert [late.index for late in join.expire(now_s=0.0)] == [4, 3]
    assert join.waiting == 3


def test_the_end_of_the_scan_gives_up_all_that_wait():
    join = joiner()
    join.add_image(image(1), 0.0)
    join.add_image(image(0), 0.0)
    assert [late.index for late in join.flush()] == [1, 0]
    assert join.flush() == []


def test_the_first_position_of_a_frame_is_kept():
    join = joiner()
    join.add_positions(positions(0, place(0), place(1)))
    join.add_positions(positions(0, (9.0, 9.0), (9.0, 9.0), place(2)))
    frames = [join.add_image(image(index), 0.0) for index in range(3)]
    assert [(frame.y_m, frame.x_m) for frame in frames] == [place(0), place(1), place(2)]


def test_a_position_repeated_after_its_image_gives_no_second_frame():
    join = joiner()
    join.add_image(image(0), 0.0)
    assert len(join.add_positions(positions(0, place(0)))) == 1
    assert join.add_positions(positions(0, place(0))) == []


def test_a_position_that_is_no_number_is_unknown_until_a_real_one_comes():
    join = joiner()
    join.add_image(image(0), 0.0)
    for broken in ((np.nan, 0.0), (0.0, np.nan), (np.inf, 0.0)):
        assert join.add_positions(positions(0, broken)) == []
    (frame,) = join.add_positions(positions(0, place(0)))
    assert (frame.y_m, frame.x_m) == place(0)


def test_a_second_copy_of_a_waiting_image_does_not_extend_its_deadline():
    join = joiner(deadline_s=1.0)
    join.add_image(image(0), now_s=0.0)
    join.add_image(image(0), now_s=0.9)
    assert len(join.expire(now_s=1.0)) == 1
    assert join.waiting == 0


@pytest.mark.parametrize("first", [-1, 10_000, 2**60])
def test_positions_of_impossible_frames_are_refused_before_memory_is_taken(first):
    with pytest.raises(MessageError, match="position stream"):
        joiner(max_frames=10_000).add_positions(positions(first, place(0)))


def test_the_last_allowed_frame_has_a_position():
    join = joiner(max_frames=3000)
    join.add_positions(positions(2999, place(2999)))
    assert join.add_image(image(2999), 0.0).y_m == place(2999)[0]


def test_positions_need_two_columns():
    with pytest.raises(MessageError, match="columns"):
        joiner().add_positions(Positions("scan", 0, np.zeros((4, 3))))


def test_an_empty_position_message_is_harmless():
    assert joiner().add_positions(Positions("scan", 0, np.zeros((0, 2)))) == []


def test_waiting_images_are_bounded_in_bytes_whatever_their_number():
    join = Joiner(1.0, 100, 10_000, max_bytes=5 * 8)
    for index in range(8):
        join.add_image(image(index), 0.0)
    assert [given_up.index for given_up in join.expire(0.0)] == [0, 1, 2]
    assert summary(join.add_positions(positions(3, *map(place, range(3, 8))))) == whole(*range(3, 8))
    assert join.expire(0.0) == []


def test_an_image_that_waits_does_not_hold_the_others_of_its_message():
    stack = np.arange(400, dtype=np.uint16).reshape(100, 2, 2)
    join = joiner()
    join.add_image(Image("scan", 0, stack[0], 1000), 0.0)
    (frame,) = join.add_positions(positions(0, place(0)))
    assert frame.counts.base is None
    assert np.array_equal(frame.counts, stack[0])


def test_the_positions_that_are_known_can_be_taken_elsewhere():
    join, other = joiner(), joiner()
    assert join.positions_m().shape == (0, 2)
    join.add_positions(positions(1, place(1), place(2)))
    other.add_positions(Positions("scan", 0, join.positions_m()))
    assert other.add_image(image(0), 0.0) is None
    assert summary([other.add_image(image(2), 0.0)]) == whole(2)
