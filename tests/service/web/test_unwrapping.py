"""The unwrapped phase is found once for all who look."""

from __future__ import annotations

import pytest

from service.web.unwrapping import SharedUnwrapping


class Object:
    """The mosaic of a scan, and how often it was taken to be unwrapped."""

    def __init__(self, mosaic):
        self.mosaic, self.taken = mosaic, 0

    def take(self):
        self.taken += 1
        return self.mosaic

    def seen_by(self, shared, refined=False):
        return shared.of(self.mosaic, refined, self.mosaic.version, self.take)


@pytest.fixture
def star(view):
    return Object(view.mosaic("star"))


def test_a_growing_mosaic_is_unwrapped_once_for_all_who_look_and_again_after_a_rest(view, star):
    shared = SharedUnwrapping()
    first, is_current = star.seen_by(shared)
    assert is_current
    assert star.seen_by(shared)[0] is first
    view.stitch(4)
    assert star.seen_by(shared) == (first, False)
    assert star.taken == 1


def test_a_scan_with_the_name_of_an_earlier_one_gets_nothing_of_it(view, star):
    shared = SharedUnwrapping()
    earlier, _ = star.seen_by(shared)
    view.begin("star")
    view.stitch(60)
    again = Object(view.mosaic("star"))
    assert again.mosaic is not star.mosaic
    found, is_current = again.seen_by(shared)
    assert (found is not earlier, is_current) == (True, True)


def test_two_who_look_at_different_objects_do_not_make_it_work_for_each_in_turn(view, star):
    shared = SharedUnwrapping()
    for _ in range(3):
        star.seen_by(shared)
        star.seen_by(shared, refined=True)
    assert star.taken == 2
