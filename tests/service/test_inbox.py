"""The queue between the sockets and the reconstruction: in order, bounded in bytes, nothing lost."""

import threading
import time

import numpy as np

from service.inbox import Inbox
from service.messages import Image, Positions, Rejected, ScanEnd

KB = 1000


def image(index, nbytes=100 * KB):
    return (Image("s", index, np.zeros((1, nbytes), np.uint8), 0),)


def test_messages_come_out_in_the_order_they_went_in():
    inbox = Inbox(1 << 20)
    for index in range(5):
        assert inbox.put(image(index), 100 * KB, 0)
    assert [inbox.get(0)[0].index for _ in range(5)] == [0, 1, 2, 3, 4]
    assert inbox.get(0) == ()


def test_a_full_inbox_takes_nothing_until_there_is_room():
    inbox = Inbox(250 * KB)
    assert inbox.put(image(0), 100 * KB, 0)
    assert inbox.put(image(1), 100 * KB, 0)
    assert not inbox.put(image(2), 100 * KB, 0.01)
    inbox.get(0)
    assert inbox.put(image(2), 100 * KB, 0)


def test_pixels_count_with_the_bytes_they_take_unpacked():
    inbox = Inbox(1000 * KB)
    assert inbox.put(image(0, nbytes=900 * KB), 10, 0)
    assert not inbox.put(image(1, nbytes=900 * KB), 10, 0)


def test_a_message_larger_than_the_budget_goes_through_alone():
    inbox = Inbox(100 * KB)
    assert inbox.put(image(0, nbytes=1000 * KB), 1000 * KB, 0)
    assert not inbox.put(image(1), 100 * KB, 0)
    inbox.get(0)
    assert inbox.put(image(1), 100 * KB, 0)


def test_a_sender_that_waits_goes_on_as_soon_as_there_is_room():
    inbox = Inbox(100 * KB)
    inbox.put(image(0), 100 * KB, 0)
    waiting = threading.Thread(target=inbox.put, args=(image(1), 100 * KB, 10.0))
    waiting.start()
    time.sleep(0.02)
    assert waiting.is_alive()
    assert inbox.get(0)[0].index == 0
    assert inbox.get(5.0)[0].index == 1
    waiting.join(5)
    assert not waiting.is_alive()


def test_without_a_budget_all_that_is_on_its_way_gets_in():
    inbox = Inbox(100 * KB)
    inbox.put(image(0), 100 * KB, 0)
    waiting = threading.Thread(target=inbox.put, args=(image(1), 100 * KB, 10.0))
    waiting.start()
    inbox.lift()
    waiting.join(5)
    assert not waiting.is_alive()
    assert inbox.put(image(2), 100 * KB, 0)
    assert len(inbox) == 3


def test_frames_are_counted_and_other_events_are_not():
    inbox = Inbox(1 << 20)
    inbox.put((*image(0), *image(1), Rejected("s", 2, "undecodable", "")), 300, 0)
    inbox.put((Positions("s", 0, np.zeros((2, 2))), ScanEnd("s")), 300, 0)
    assert (inbox.frames, len(inbox)) == (3, 2)
    inbox.get(0)
    assert (inbox.frames, len(inbox)) == (0, 1)


def test_many_senders_and_a_small_budget_lose_nothing():
    inbox, got = Inbox(500 * KB), []

    def send(first):
        for index in range(first, first + 100):
            assert inbox.put(image(index), 100 * KB, 10.0)

    senders = [threading.Thread(target=send, args=(100 * n,)) for n in range(3)]
    for sender in senders:
        sender.start()
    while len(got) < 300:
        got += [event.index for event in inbox.get(5.0)]
    assert sorted(got) == list(range(300))
    assert [n for n in got if n < 100] == list(range(100))


def test_an_inbox_that_does_not_wait_lets_in_the_numbers_of_frames_without_room():
    inbox = Inbox(250 * KB)
    for index in range(4):
        inbox.put_or_drop(image(index), 100 * KB)
    inbox.put_or_drop((ScanEnd("s"),), 10)
    got = [inbox.get(0)[0] for _ in range(5)]
    assert [type(event) for event in got] == [Image, Image, Rejected, Rejected, ScanEnd]
    assert [(event.index, event.reason) for event in got[2:4]] == [(2, "overload"), (3, "overload")]
    assert inbox.held_bytes == 0


def test_a_flood_of_messages_without_pixels_fills_an_inbox_too():
    inbox = Inbox(10 * KB)
    floods = sum(inbox.put((Rejected("s", index, "undecodable", ""),), 0, 0) for index in range(100))
    assert 0 < floods < 100
    assert inbox.held_bytes <= 10 * KB


def test_who_waits_for_messages_is_woken_once_when_something_else_has_come():
    inbox, got = Inbox(1 << 20), []
    waiting = threading.Thread(target=lambda: got.append(inbox.get(60.0)))
    waiting.start()
    inbox.wake()
    waiting.join(30)
    assert got == [()]
    inbox.put(image(0), 100 * KB, 0)
    assert inbox.get(60.0)[0].index == 0


def test_to_be_woken_before_waiting_is_not_forgotten_and_hides_no_message():
    inbox = Inbox(1 << 20)
    inbox.wake()
    assert inbox.get(60.0) == ()
    inbox.wake()
    inbox.put(image(7), 100 * KB, 0)
    assert inbox.get(60.0)[0].index == 7
