"""One scan after the other, in simulated time: each keeps its frames, its geometry and its result."""

from dataclasses import replace

import numpy as np
import pytest

from service.messages import Image, Positions, ScanEnd, ScanStart

FRAMES = 64
PIXEL_M = 1e-8


def only(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


def test_a_scan_that_is_aborted_by_the_next_start_keeps_its_result(journey, stream):
    first, second = stream(), stream(scan="next")
    told = journey().take(first[:41] + second)
    aborted, whole = told.finished
    assert (aborted.ledger.counts().stitched, whole.ledger.counts().stitched) == (40, FRAMES)
    assert aborted.ledger.counts().dropped == {"never_arrived": 24}
    assert all(run.ledger.counts().balanced for run in told.finished)
    assert "next began before" in aborted.warnings["end"]


def test_strays_of_an_aborted_scan_do_not_touch_the_next_one(journey, stream):
    first, second = stream(), stream(scan="next")
    told = journey().take([*first[:30], *second[:20], *first[30:40], first[-1], *second[20:]])
    aborted, whole = told.finished
    assert (aborted.ledger.counts().stitched, whole.ledger.counts().stitched) == (29, FRAMES)
    assert whole.ledger.counts().received == FRAMES
    assert len(told.strays) == 10


def test_a_scan_that_has_ended_gives_way_to_the_next_one_at_once(journey, stream):
    first, second = stream(), stream(scan="next")
    told = journey().take([*first[:30], first[-1], *second])
    assert [run.ledger.counts().stitched for run in told.finished] == [29, FRAMES]
    assert "end" not in told.finished[0].warnings


def test_a_start_that_comes_twice_is_one_scan(journey, stream):
    start, *rest = stream()
    run = journey().take([start, start, *rest]).result()
    assert run.ledger.counts().stitched == FRAMES
    assert "twice" in run.warnings["start"]


@pytest.mark.parametrize("first_part", [slice(0, 40), [*range(40), -1]], ids=["aborted", "ended short"])
def test_a_scan_begun_anew_under_the_same_name_is_another_scan(journey, stream, first_part):
    events = stream()
    first = events[first_part] if isinstance(first_part, slice) else [events[n] for n in first_part]
    told = journey().take(first + events)
    assert [run.ledger.counts().stitched for run in told.finished] == [39, FRAMES]
    assert [run.ledger.counts().duplicates for run in told.finished] == [0, 0]


def test_a_series_without_a_header_runs_on_the_geometry_of_the_model_and_says_so(journey, stream):
    events = stream(positions="stream")
    header = replace(events[0], frames=None, object_pixel_m=None, wavelength_m=None, assumed="32 × 32")
    run = journey().take([header, *events[1:]]).wait(2.1).result()
    assert (run.ledger.counts().stitched, run.ledger.counts().expected) == (FRAMES, FRAMES)
    assert run.object_pixel_m == PIXEL_M
    assert "not received: 32 × 32" in run.warnings["start"]
    assert "10.00 nm" in run.warnings["geometry"]


def test_the_service_may_come_up_in_the_middle_of_a_series(journey, tiny_file, stream):
    *frames, end = stream(positions="stream")
    positions = Positions("tiny", 0, tiny_file.positions_m)
    assumed = ScanStart("tiny", (32, 32), np.dtype("<u2"), assumed="32 × 32")
    told = journey().take([positions, assumed, *only(frames, Image)[40:], end])
    counts = told.wait(2.1).result().ledger.counts()
    assert (counts.expected, counts.stitched, counts.dropped) == (FRAMES, 24, {"never_arrived": 40})


def test_strays_of_a_series_that_never_started_here_do_not_end_a_running_scan(journey, stream):
    strays = only(stream(scan="old"), Image)[:5]
    assumed = ScanStart("old", (32, 32), np.dtype("<u2"), assumed="32 × 32")
    events = stream()
    told = journey().take([*events[:20], assumed, *strays, *events[20:]])
    assert told.result().ledger.counts().stitched == FRAMES
    assert len(told.strays) == 5


def test_a_scan_whose_format_tells_no_end_is_over_when_no_frame_comes(journey, stream):
    start, *images, _ = stream()
    told = journey(idle_end_s=30.0).take([replace(start, frames=None, has_end=False), *images]).wait(29)
    assert told.run.scan == "tiny"
    run = told.wait(1).result()
    assert run.ledger.counts().stitched == FRAMES
    assert "no frame came for 30 s" in run.warnings["end"]


def test_a_scan_whose_end_will_be_told_waits_for_it(journey, stream):
    start, *images, end = stream()
    told = journey(idle_end_s=30.0).take([replace(start, frames=None), *images]).wait(100)
    assert told.run.scan == "tiny"
    assert told.take([end]).wait(3).result().warnings == {}


def test_a_running_scan_is_not_begun_anew_by_a_start_that_is_only_assumed(journey, stream):
    events = stream()
    assumed = replace(events[0], positions_m=None, assumed="32 × 32")
    told = journey().take([*events[:20], assumed, *events[20:30]]).wait(3)
    assert told.take([assumed, *events[30:]]).result().ledger.counts().stitched == FRAMES


def test_a_series_without_a_header_takes_over_when_the_scan_before_it_has_gone_quiet(
    journey, tiny_file, stream
):
    events = stream()
    assumed = ScanStart("next", (32, 32), np.dtype("<u2"), assumed="32 × 32")
    frames = only(stream(scan="next"), Image)
    told = journey().take([*events[:20], assumed, *frames[:10]]).wait(2.1)
    told.take([Positions("next", 0, tiny_file.positions_m), *frames[10:], ScanEnd("next")]).wait(2.1)
    quiet, taken = told.finished
    assert (quiet.ledger.counts().stitched, taken.ledger.counts().stitched) == (19, 54)
    assert all(run.ledger.counts().balanced for run in told.finished)
    assert len(told.strays) == 10


def test_frames_without_a_scan_are_told_and_counted_nowhere_else(journey, stream):
    _, *headless = stream()
    told = journey().take(headless)
    assert told.idle
    assert not told.started
    assert len(told.strays) == FRAMES


@pytest.mark.parametrize(("length_m", "detector_pixel_m"), [(1e-300, 1.0), (1e29, 1e-300)])
def test_a_geometry_that_gives_no_pixel_is_not_believed(journey, stream, length_m, detector_pixel_m):
    start, *rest = stream()
    lengths = {"wavelength_m": length_m, "distance_m": length_m, "detector_pixel_m": detector_pixel_m}
    run = journey().take([replace(start, object_pixel_m=None, **lengths), *rest]).result()
    assert run.object_pixel_m == PIXEL_M
    assert run.ledger.counts().stitched == FRAMES


def test_the_pixel_that_the_stream_tells_wins_and_a_model_of_another_one_is_told(journey, stream):
    start, *rest = stream()
    run = journey().take([replace(start, object_pixel_m=2e-8), *rest]).result()
    assert run.mosaic.object_pixel_m == 2e-8
    assert "20.00 nm, the model was trained at 10.00 nm" in run.warnings["geometry"]
