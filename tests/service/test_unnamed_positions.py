"""Positions of a source that does not know the scans' names: each of its captures is of one scan."""

import numpy as np
import pytest

from service.early_positions import EarlyPositions
from service.messages import Image, Notice, Positions, PositionsArmed, ScanEnd, ScanStart

FRAMES = 64
ARMED = PositionsArmed()


@pytest.fixture
def scan(stream):
    """Return the events of the small scan under a name, without any positions."""

    def named(name):
        events = stream(positions="stream", scan=name)
        return [event for event in events if not isinstance(event, Positions)]

    return named


@pytest.fixture
def places(tiny_file):
    """Return the small scan's positions as a source without names sends them, shifted by so many metres."""

    def shifted(by_m=0.0, first=0, stop=FRAMES):
        return [Positions("", n, tiny_file.positions_m[n : n + 1] + by_m) for n in range(first, stop)]

    return shifted


def ended(run):
    counts = run.ledger.counts()
    assert counts.balanced
    return counts.stitched, counts.dropped


def placed_m(run):
    return run.placed()[1]


def test_a_capture_belongs_to_the_scan_that_runs(journey, scan, places, tiny_file):
    start, *rest = scan("a")
    run = journey().take([start, ARMED, *places(), *rest]).wait(3).result()
    assert ended(run) == (FRAMES, {})
    assert np.array_equal(placed_m(run), tiny_file.positions_m)
    assert run.warnings == {}


def test_a_capture_that_is_armed_before_the_detector_belongs_to_the_next_scan(
    journey, scan, places, tiny_file
):
    start, *rest = scan("a")
    early, late = places(stop=20), places(first=20)
    run = journey().take([ARMED, *early, start, *late, *rest]).wait(3).result()
    assert ended(run) == (FRAMES, {})
    assert np.array_equal(placed_m(run), tiny_file.positions_m)


def test_what_is_left_of_a_finished_scans_capture_places_no_frame_of_the_next(
    journey, scan, places, tiny_file
):
    start, *images = scan("a")
    aborted = [start, ARMED, *places(by_m=1e-7, stop=30), *images[:30], ScanEnd("a", 30)]
    both = journey().take(aborted).wait(3).take(places(by_m=1e-7, first=30))
    start, *rest = scan("b")
    both.take([start, *rest[:40], *places(by_m=1e-7, first=30), ARMED, *places(), *rest[40:]]).wait(3)
    first, second = both.finished
    assert ended(first) == (30, {"never_arrived": FRAMES - 30})
    assert ended(second) == (FRAMES, {})
    assert np.array_equal(placed_m(second), tiny_file.positions_m)


def test_a_capture_without_frames_before_the_scan_gives_way_to_the_scans_own(
    journey, scan, places, tiny_file
):
    alignment = [ARMED, *places(by_m=1e-6)]
    start, *rest = scan("a")
    run = journey().take([*alignment, start, ARMED, *places(), *rest]).wait(3).result()
    assert ended(run) == (FRAMES, {})
    assert np.array_equal(placed_m(run), tiny_file.positions_m)


def test_planned_positions_stay_when_a_capture_without_frames_gives_way(journey, stream, places, tiny_file):
    start, *rest = stream(positions="start")
    armed_twice = [start, ARMED, *places(by_m=1e-6), ARMED, *rest]
    run = journey().take(armed_twice).wait(3).result()
    assert np.array_equal(placed_m(run), tiny_file.positions_m)


def test_the_capture_of_the_next_scan_may_begin_before_the_last_frames_are_given_up(
    journey, scan, places, tiny_file
):
    first, second = scan("a"), scan("b")
    both = journey().take([first[0], ARMED, *places(by_m=1e-7), *first[1:]])
    both.take([ARMED, *places(stop=5)]).take([second[0], *places(first=5), *second[1:]]).wait(3)
    assert [ended(run) for run in both.finished] == [(FRAMES, {})] * 2
    assert np.array_equal(placed_m(both.finished[1]), tiny_file.positions_m)
    assert all(run.warnings == {} for run in both.finished)


def test_a_source_that_is_armed_again_in_mid_scan_is_told_and_moves_no_frame(
    journey, scan, places, tiny_file
):
    start, *images = scan("a")
    told = journey(join_deadline_s=1.0)
    told.take([start, ARMED, *places(stop=40), *images[:40], ARMED, *places(by_m=1e-6), *images[40:]])
    run = told.wait(5).result()
    assert ended(run) == (40, {"no_position": FRAMES - 40})
    assert np.array_equal(placed_m(run), tiny_file.positions_m[:40])
    assert "armed again in mid-scan" in run.warnings["positions_armed"]
    assert run.warnings["no_position"].startswith("positions end at frame 39")


def test_positions_that_begin_late_are_told_in_one_line(journey, scan, places):
    start, *rest = scan("a")
    run = journey(join_deadline_s=1.0).take([start, ARMED, *places(first=24), *rest]).wait(5).result()
    assert ended(run) == (FRAMES - 24, {"no_position": 24})
    assert run.warnings == {
        "no_position": "positions begin at frame 24, frames before: was its source armed, and heard, in time?"
    }


def test_a_counter_that_begins_at_one_is_suspected(journey, scan, places):
    start, *rest = scan("a")
    run = journey(join_deadline_s=1.0).take([start, ARMED, *places(first=1), *rest]).wait(5).result()
    assert "count from 1?" in run.warnings["no_position"]


def test_frames_that_begin_late_are_told_in_one_line(journey, scan, places):
    start, *images, end = scan("a")
    run = journey().take([start, ARMED, *places(), *images[24:], end]).wait(3).result()
    assert ended(run) == (FRAMES - 24, {"never_arrived": 24})
    assert list(run.warnings) == ["begin"]
    assert "frames begin at 24" in run.warnings["begin"]


def test_one_lost_frame_at_the_beginning_is_no_late_begin(journey, scan, places):
    start, *images, end = scan("a")
    run = journey().take([start, ARMED, *places(), *images[1:], end]).wait(3).result()
    assert run.warnings == {}


def test_late_positions_within_the_deadline_place_their_frames(journey, scan, places):
    start, *rest = scan("a")
    told = journey(join_deadline_s=5.0).take([start, ARMED, *places(stop=32), *rest]).wait(4)
    assert not told.finished
    run = told.take(places(first=32)).wait(3).result()
    assert ended(run) == (FRAMES, {})


def test_a_notice_is_kept_with_the_scan_that_runs(journey, scan, places):
    start, *rest = scan("a")
    nobody = Notice("panda_end", "before any scan")
    run = (
        journey()
        .take([nobody, start, ARMED, *places(), Notice("panda_end", "it broke"), *rest])
        .wait(3)
        .result()
    )
    assert run.warnings == {"panda_end": "it broke"}


def test_positions_without_a_scan_take_no_endless_memory():
    early = EarlyPositions(most_bytes=10_000)
    early.keep(Positions("old", 0, np.zeros((90, 2))))
    for n in range(50):
        early.keep(Positions("", n, np.zeros((10, 2))))
    assert 0 < sum(kept.positions_m.nbytes for kept in early.begin("old")) <= 10_000


def test_positions_messages_without_rows_take_no_endless_memory_either():
    early = EarlyPositions(most_bytes=10_000)
    for n in range(1000):
        early.keep(Positions(f"scan-{n}", 0, np.zeros((0, 2))))
    held = [len(early.begin(f"scan-{n}")) for n in range(1000)]
    assert 0 < sum(held) < 100
    assert held[-1] == 1


def test_a_missing_detector_keeps_only_the_newest_capture():
    early = EarlyPositions(most_bytes=1000)
    for capture in range(3):
        early.arm(unused=True)
        early.keep(Positions("", 0, np.full((1, 2), float(capture))))
    (kept,) = early.begin("scan")
    assert kept.positions_m[0, 0] == 2.0


def test_only_the_named_scan_gets_named_positions():
    early = EarlyPositions(most_bytes=1000)
    assert early.owner(Positions("other", 0, np.zeros((1, 2))), "scan") is None
    assert early.owner(Positions("scan", 0, np.zeros((1, 2))), "scan") == "scan"
    assert early.owner(Positions("", 0, np.zeros((1, 2))), None) is None


def test_the_start_of_a_scan_and_its_images_need_no_positions_to_be_kept(journey, scan):
    start, *rest = scan("a")
    run = journey(join_deadline_s=0.5).take([start, *rest]).wait(4).result()
    assert isinstance(start, ScanStart)
    assert ended(run) == (0, {"no_position": sum(isinstance(event, Image) for event in rest)})
    assert "both armed" in run.warnings["no_position"]
