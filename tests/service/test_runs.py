"""The scans that the service remembers."""

import pytest

from service.runs import Runs

FRAMES = 64


@pytest.fixture
def finished(journey, stream):
    """Return what makes a finished scan of a name."""

    def make(scan, frames=FRAMES):
        return journey().take(stream(scan=scan, frames=frames)).result()

    return make


def names(runs):
    return [run.scan for run in runs.newest_first()]


def remember(runs, *scans):
    for run in scans:
        runs.add(run)
        runs.finish(run)


def test_the_newest_scan_comes_first_and_the_running_one_is_current(journey, stream, finished):
    runs = Runs(keep=8)
    remember(runs, finished("a"))
    assert runs.current() is None
    running = journey().take(stream()[:3]).run
    runs.add(running)
    assert names(runs) == ["tiny", "a"]
    assert runs.current() is running
    assert runs.get("a").scan == "a"
    assert runs.get("b") is None


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, ["c"]), (2, ["c", "b"]), (8, ["c", "b", "a"])])
def test_only_so_many_finished_scans_are_kept(finished, keep, left):
    runs = Runs(keep)
    remember(runs, finished("a"), finished("b"), finished("c"))
    assert names(runs) == left


def test_a_running_scan_is_never_forgotten(journey, stream, finished):
    runs = Runs(keep=0)
    runs.add(journey().take(stream()[:3]).run)
    remember(runs, finished("a"))
    assert names(runs) == ["tiny"]


def test_a_scan_of_the_same_name_takes_the_place_of_the_old_one(finished):
    runs = Runs(keep=8)
    old, new = finished("a"), finished("a")
    remember(runs, old, new)
    assert runs.newest_first() == [new]


@pytest.mark.parametrize("keep", [0, 1, 8])
def test_the_totals_hold_forgotten_scans_too(finished, journey, stream, keep):
    runs = Runs(keep)
    remember(runs, finished("a"), finished("b", frames=10), finished("a"))
    runs.add(journey(batch_frames=1).take(stream()[:6]).run)
    totals = runs.totals()
    assert totals.stages["stitched"] == FRAMES + 10 + FRAMES + 5
    assert totals.stages["expected"] == 3 * FRAMES + 10
    assert not totals.dropped
    assert runs.totals().stages == totals.stages
