import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch import Batcher
from service.messages import Frame


def frame(index):
    return Frame(index, np.zeros((2, 2), np.uint16), 0.0, 0.0, 0)


def numbers(batch):
    return [frame.index for frame in batch.frames]


def test_a_batch_leaves_when_it_is_full():
    batcher = Batcher("star", size=3, deadline_s=1.0)
    assert batcher.add(frame(0), 0.0) is None
    assert batcher.add(frame(1), 0.1) is None
    batch = batcher.add(frame(2), 0.2)
    assert (batch.scan, numbers(batch)) == ("star", [0, 1, 2])
    assert batcher.flush() is None


def test_a_partial_batch_leaves_when_its_oldest_frame_has_waited_enough():
    batcher = Batcher("star", size=8, deadline_s=0.5)
    batcher.add(frame(0), 10.0)
    batcher.add(frame(1), 10.4)
    assert batcher.due(10.49) is None
    assert numbers(batcher.due(10.5)) == [0, 1]
    assert batcher.due(99.0) is None


def test_the_deadline_starts_anew_with_each_batch():
    batcher = Batcher("star", size=2, deadline_s=0.5)
    assert batcher.wake_s is None
    batcher.add(frame(0), 10.0)
    assert batcher.wake_s == 10.5
    batcher.add(frame(1), 10.1)
    assert batcher.wake_s is None
    batcher.add(frame(2), 20.0)
    assert batcher.wake_s == 20.5


def test_the_wake_time_is_when_something_is_due():
    batcher = Batcher("star", size=2, deadline_s=0.1)
    batcher.add(frame(0), 0.2)
    assert batcher.due(batcher.wake_s) is not None


def test_the_last_frames_of_a_scan_are_flushed():
    batcher = Batcher("star", size=64, deadline_s=1.0)
    for index in range(63):
        assert batcher.add(frame(index), 0.0) is None
    assert numbers(batcher.flush()) == list(range(63))
    assert batcher.wake_s is None


def test_batches_of_one_leave_at_once():
    assert numbers(Batcher("star", size=1, deadline_s=1.0).add(frame(5), 0.0)) == [5]


def test_an_empty_batch_size_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Batcher("star", size=0, deadline_s=1.0)


@given(st.integers(1, 7), st.lists(st.floats(0, 0.3), max_size=40))
def test_every_frame_leaves_once_in_order_and_no_batch_is_too_large(size, pauses_s):
    batcher, now_s, batches = Batcher("star", size, deadline_s=0.5), 0.0, []
    for index, pause_s in enumerate(pauses_s):
        now_s += pause_s
        batches += [batcher.due(now_s), batcher.add(frame(index), now_s)]
    left = [numbers(batch) for batch in (*batches, batcher.flush()) if batch is not None]
    assert [index for batch in left for index in batch] == list(range(len(pauses_s)))
    assert all(1 <= len(batch) <= size for batch in left)
