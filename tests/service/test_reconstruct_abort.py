"""A scan that its operator ends, in simulated time: every frame ends in exactly one place."""

from service.messages import Positions
from service.reconstruct import ABORTED

FRAMES = 64


def test_an_aborted_scan_keeps_what_it_has(journey, stream):
    told = journey(batch_frames=16, batch_deadline_s=60.0).take(stream()[:25])
    told.abort(told.run)
    run = told.result()
    counts = run.ledger.counts()
    assert (counts.stitched, counts.dropped) == (24, {"never_arrived": FRAMES - 24})
    assert run.warnings[ABORTED] == "the scan was aborted"


def test_frames_that_wait_for_their_positions_are_counted_as_aborted(journey, stream):
    events = [event for event in stream(positions="stream") if not isinstance(event, Positions)]
    told = journey().take(events[:25])
    told.abort(told.run)
    counts = told.result().ledger.counts()
    assert (counts.stitched, counts.dropped[ABORTED]) == (0, 24)


def test_a_scan_that_has_ended_meanwhile_is_left_alone(journey, stream):
    told = journey().take(stream()[:25])
    first = told.run
    told.abort(first)
    told.abort(first)
    assert told.result() is first
