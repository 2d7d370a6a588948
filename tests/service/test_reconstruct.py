"""The journey of the frames in simulated time: every frame ends in exactly one place."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.geometry import probe_weight
from service.errors import EngineError
from service.faults import Faults
from service.messages import Image, Positions, Rejected, ScanEnd, ScanStart, Tiles
from service.mosaic import Mosaic

FRAMES = 64
PIXEL_M = 1e-8


def only(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


def without(events, *kinds):
    return [event for event in events if not isinstance(event, kinds)]


def stitched(run):
    return run.placed()[0].tolist()


class FailsOnce:
    """A real engine whose card falls out of the bus for one batch."""

    def __init__(self, engine, batch):
        self.bundle, self.backend, self.device = engine.bundle, engine.backend, engine.device
        self._engine = engine
        self._left = batch

    def infer(self, counts):
        self._left -= 1
        if self._left == 0:
            raise EngineError("the device is gone")
        return self._engine.infer(counts)


# Whole scans


@pytest.mark.parametrize("positions", ["start", "stream"])
@pytest.mark.parametrize("format_", ["native", "dectris-v2"])
def test_every_frame_of_a_clean_scan_is_stitched(journey, stream, format_, positions):
    run = journey().take(stream(format=format_, positions=positions)).result()
    counts = run.ledger.counts().as_dict()
    assert counts.pop("dropped") == {}
    assert counts.pop("duplicates") == 0
    assert set(counts.values()) == {FRAMES}
    assert run.warnings == {}


def test_positions_may_travel_with_the_frames(journey, stream):
    run = journey().take(stream(format="native", positions="frames", frames_per_message=5)).result()
    assert run.ledger.counts().stitched == FRAMES


def test_the_mosaic_is_what_the_network_says_at_each_scan_position(journey, stream, tiny_file, loaded_bundle):
    run = journey().take(stream(faults=Faults(reorder=0.4, late=0.3, dup=0.2))).result()
    frames = tiny_file.frames().astype(np.float32)
    amplitude = frames[:, 8:24, 8:24] / frames.mean(axis=(1, 2), keepdims=True)
    cos, sin = np.ones_like(amplitude), np.zeros_like(amplitude)
    by_hand = Mosaic(PIXEL_M, probe_weight(loaded_bundle.probe, (16, 16)))
    numbers = np.arange(FRAMES)
    by_hand.add(Tiles("", numbers, tiny_file.positions_m, amplitude, cos, sin, numbers))
    assert run.mosaic.bounds() == by_hand.bounds()
    for channel in ("amplitude", "phase", "agreement", "coverage"):
        np.testing.assert_allclose(run.mosaic.image(channel), by_hand.image(channel), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run.placed()[1], tiny_file.positions_m)


def test_frames_go_through_the_engine_in_batches_and_the_last_one_is_flushed_at_the_end(journey, stream):
    told = journey(batch_frames=24, batch_deadline_s=60.0)
    told.take(stream()).result()
    assert [len(painted.tiles.indices) for painted in told.painted] == [24, 24, 16]


def test_a_partial_batch_does_not_wait_longer_than_its_deadline(journey, stream):
    told = journey(batch_frames=24, batch_deadline_s=0.05).take(stream(frames=30)[:-1])
    assert told.run.ledger.counts().stitched == 24
    told.wait(0.06)
    assert told.run.ledger.counts().stitched == 30


def test_latency_is_told_from_the_socket_to_the_mosaic(journey, stream):
    told = journey(batch_frames=4)
    for event in stream():
        received_ns = int(told.now_s * 1e9)
        told.take(
            [msgspec.structs.replace(event, received_ns=received_ns) if isinstance(event, Image) else event]
        )
    rates = told.result().report(int(told.now_s * 1e9))["rates"]
    assert rates["latency_p50_s"] == pytest.approx(1.5e-3, abs=1e-4)
    assert rates["latency_p99_s"] == pytest.approx(3e-3, abs=1e-4)
    assert rates["mean_frames_per_s"] == pytest.approx(1000, rel=0.05)


# Faults of the detector's stream


@pytest.mark.parametrize("positions", ["start", "stream"])
@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=0.2, seed=1),
        Faults(dup=0.3, seed=2),
        Faults(reorder=0.5, seed=3),
        Faults(late=0.3, seed=4),
        Faults(drop=0.2, dup=0.2, reorder=0.2, late=0.2, seed=5),
        Faults(drop=1.0),
    ],
    ids=["drop", "dup", "reorder", "late", "all", "nothing comes"],
)
def test_the_ledger_balances_whatever_the_faults(journey, stream, faults, positions):
    events = stream(faults=faults, positions=positions)
    sent = [image.index for image in only(events, Image)]
    told = journey().take(events)
    counts = told.wait(2.1).result().ledger.counts()
    late = len(told.strays)  # a copy may come after the last frame that was missing
    assert (counts.expected, counts.received) == (FRAMES, len(sent) - late)
    assert counts.stitched == len(set(sent))
    assert counts.duplicates == len(sent) - late - len(set(sent))
    assert counts.dropped == ({} if len(set(sent)) == FRAMES else {"never_arrived": FRAMES - len(set(sent))})


def test_frames_that_the_end_overtakes_are_still_stitched(journey, stream):
    start, *frames, end = stream()
    told = journey().take([start, *frames[:40], end])
    assert told.run.ledger.counts().stitched == 40
    assert told.wait(1.5).take(frames[40:]).wait(0.1).result().ledger.counts().stitched == FRAMES


def test_frames_later_than_the_grace_are_strays_and_the_result_is_already_told(journey, stream):
    start, *frames, end = stream()
    told = journey().take([start, *frames[:40], end]).wait(2.1).take(frames[40:])
    assert told.result().ledger.counts().dropped == {"never_arrived": 24}
    assert len(told.strays) == 24


@pytest.mark.parametrize("format_", ["native", "dectris-v2"])
def test_an_end_that_comes_twice_changes_nothing(journey, stream, format_):
    *events, end = stream(format=format_)
    told = journey().take([*events, end, end]).wait(3)
    assert told.result().ledger.counts().stitched == FRAMES


def test_a_whole_scan_whose_end_is_lost_finishes_when_no_frame_comes_any_more(journey, stream):
    *events, _ = stream()
    told = journey().take(events)
    assert told.run.ledger.counts().stitched == FRAMES
    assert told.wait(2.1).result().ledger.counts().stitched == FRAMES


def test_a_scan_without_end_and_with_frames_missing_may_only_pause(journey, stream):
    *events, _ = stream()
    told = journey().take(events[:30]).wait(600)
    assert told.run.ledger.counts().stitched == 29
    told.take(events[30:]).wait(2.1)
    assert told.result().ledger.counts().stitched == FRAMES


def test_a_second_client_that_takes_every_other_frame_is_told(journey, stream):
    start, *frames, end = stream()
    run = journey().take([start, *frames[::2], end]).wait(3).result()
    assert run.ledger.counts().dropped == {"never_arrived": FRAMES // 2}
    assert "another client" in run.warnings["stride"]


def test_closing_ends_the_scan_and_places_what_can_be_placed(journey, stream):
    told = journey(batch_frames=100, batch_deadline_s=60.0).take(stream()[:31])
    told.close()
    counts = told.result().ledger.counts()
    assert (counts.stitched, counts.dropped) == (30, {"never_arrived": 34})


@pytest.mark.parametrize("format_", ["native", "dectris-v2"])
def test_a_scan_of_unknown_length_ends_with_its_end(journey, stream, format_):
    start, *frames, end = stream(format=format_)
    told = journey().take(
        [replace(start, frames=None), *frames[:20], *frames[21:], replace(end, frames=None)]
    )
    assert told.run.ledger.counts().expected is None
    counts = told.wait(2.1).result().ledger.counts()
    assert (counts.expected, counts.stitched, counts.dropped) == (FRAMES, 63, {"never_arrived": 1})


def test_the_end_may_tell_how_many_frames_there_were(journey, stream):
    start, *frames, end = stream(format="native")
    told = journey().take([replace(start, frames=None), *frames[:50], end]).wait(2.1)
    assert told.result().ledger.counts().dropped == {"never_arrived": 14}


def test_more_frames_than_announced_are_stitched_and_told(journey, stream):
    start, *frames, end = stream()
    counts = journey().take([replace(start, frames=60), *frames, end]).result().ledger.counts()
    assert (counts.expected, counts.stitched, counts.announced) == (FRAMES, FRAMES, 60)


# Positions


def test_positions_may_come_before_the_scan_starts(journey, stream):
    events = stream(positions="stream")
    run = journey().take(only(events, Positions) + without(events, Positions)).result()
    assert run.ledger.counts().stitched == FRAMES


def test_a_position_a_message_long_before_the_start_is_not_forgotten(journey, tiny_file, stream):
    positions = [Positions("tiny", n, tiny_file.positions_m[n : n + 1]) for n in range(FRAMES)]
    others = [Positions(f"other-{n}", n, np.zeros((1, 2))) for n in range(3000)]
    told = journey().take([*positions, *others, *without(stream(positions="stream"), Positions)])
    assert told.result().ledger.counts().stitched == FRAMES


def test_positions_of_scans_that_never_come_take_no_more_than_their_share_of_memory(journey, stream):
    hoard = [Positions(f"scan-{n}", 0, np.zeros((1 << 18, 2))) for n in range(5)]
    told = journey().take([*hoard, ScanStart("scan-4", (32, 32), np.dtype("<u2"), frames=1)])
    told.take([only(stream(scan="scan-4"), Image)[0]]).wait(0.1)
    assert told.run.ledger.counts().stitched == 1
    told.take([ScanStart("scan-0", (32, 32), np.dtype("<u2"), frames=1)])
    told.take([only(stream(scan="scan-0"), Image)[0]]).wait(0.1)
    assert told.run.joiner.waiting == 1


def test_positions_may_come_later_than_all_their_frames(journey, stream):
    events = stream(positions="stream")
    told = journey(join_deadline_s=10.0).take(without(events, Positions)).wait(9)
    assert told.run.joiner.waiting == FRAMES
    assert told.take(only(events, Positions)).wait(2.1).result().ledger.counts().stitched == FRAMES


def test_frames_whose_positions_are_lost_are_dropped_after_the_deadline(journey, stream):
    events = stream(positions="stream")
    lost = only(events, Positions)[1]
    told = journey(join_deadline_s=10.0).take(event for event in events if event is not lost).wait(11)
    run = told.result()
    assert run.ledger.counts().dropped == {"no_position": 16}
    assert set(range(FRAMES)) - set(stitched(run)) == set(range(16, 32))
    assert "packet of positions lost" in run.warnings["no_position"]


def test_positions_that_come_after_the_deadline_save_nothing_and_break_nothing(journey, stream):
    events = stream(positions="stream")
    told = journey(join_deadline_s=1.0).take(without(events, Positions)).wait(2.5)
    told.take(only(events, Positions))
    assert told.result().ledger.counts().dropped == {"no_position": FRAMES}


def test_no_more_images_wait_for_positions_than_allowed(journey, stream):
    told = journey(join_waiting=10).take(without(stream(positions="stream"), Positions)[:-1])
    assert told.run.joiner.waiting == 10
    told.close()
    assert told.result().ledger.counts().dropped == {"no_position": FRAMES}


def test_positions_without_a_name_are_those_of_the_running_scan(journey, stream):
    events = stream(positions="stream")
    unnamed = [replace(event, scan="") if isinstance(event, Positions) else event for event in events]
    assert journey().take(unnamed).result().ledger.counts().stitched == FRAMES


def test_positions_that_cannot_be_are_told_and_cost_only_themselves(journey, stream):
    start, *frames, end = stream()
    told = journey().take([start, Positions("tiny", 1 << 40, np.zeros((3, 2))), *frames, end])
    assert told.result().ledger.counts().stitched == FRAMES
    assert "outside" in told.result().warnings["positions"]


def test_a_beam_that_is_absurdly_far_away_is_not_stitched(journey, stream):
    start, *frames, end = stream()
    positions_m = start.positions_m.copy()
    positions_m[5] = 1e3
    run = journey().take([replace(start, positions_m=positions_m), *frames, end]).result()
    assert run.ledger.counts().dropped == {"outside": 1}
    assert 5 not in stitched(run)


# Frames that cannot be used


def test_frames_of_another_shape_are_dropped_and_the_operator_is_told(journey, stream):
    start, *frames, end = stream()
    wide = [msgspec.structs.replace(image, counts=np.ones((32, 40), np.uint16)) for image in frames[:3]]
    run = journey().take([start, *wide, *frames[3:], end]).result()
    assert run.ledger.counts().dropped == {"frame_shape": 3}
    assert "(32, 40), the model tiny takes (32, 32)" in run.warnings["frame_shape"]


def test_undecodable_frames_are_dropped_under_their_reason(journey, stream):
    start, *frames, end = stream()
    damaged = [Rejected("tiny", image.index, "undecodable", "cut short") for image in frames[:5]]
    run = journey().take([start, *damaged, *frames[5:], end]).result()
    assert run.ledger.counts().dropped == {"undecodable": 5}
    assert run.ledger.counts().decoded == FRAMES - 5
    assert run.warnings["undecodable"] == "frame 0: cut short"


def test_a_copy_of_an_undecodable_frame_is_a_duplicate(journey, stream):
    start, *frames, end = stream()
    damaged = Rejected("tiny", 0, "undecodable", "cut short")
    counts = journey().take([start, damaged, damaged, *frames, end]).result().ledger.counts()
    assert (counts.dropped, counts.duplicates) == ({"undecodable": 1}, 2)


def test_an_engine_that_fails_once_costs_one_batch(journey, stream, tiny_engine):
    run = journey(FailsOnce(tiny_engine, batch=2), batch_frames=16).take(stream()).result()
    assert run.ledger.counts().dropped == {"engine_failed": 16}
    assert stitched(run) == [*range(16), *range(32, FRAMES)]
    assert "gone" in run.warnings["engine_failed"]


def test_a_tile_that_is_not_finite_stays_out_of_mosaic_result_and_figures(journey, stream):
    start, *frames, end = stream()
    dark = msgspec.structs.replace(frames[-1], counts=np.zeros((32, 32), np.uint16))
    told = journey(batch_frames=1).take([start, *frames[:-1], dark, end])
    run = told.result()
    assert run.ledger.counts().dropped == {"not_finite": 1}
    assert FRAMES - 1 not in stitched(run)
    assert np.isfinite(run.mosaic.image("amplitude")).all()
    assert all(np.isfinite(painted.tiles.amplitude).all() for painted in told.painted)
    json.dumps(run.report(0), allow_nan=False)


def test_masked_pixels_are_marked_as_bad_for_the_network(journey, stream):
    start, *frames, end = stream()
    mask = np.zeros((32, 32), bool)
    mask[16, 16] = True
    told = journey(batch_frames=1).take([replace(start, mask=mask), *frames, end])
    counts = frames[0].counts.astype(np.float64)
    counts[16, 16] = 65535
    assert told.painted[0].tiles.amplitude[0, 8, 8] == pytest.approx(65535 / counts.mean(), rel=1e-5)


# Any order


@st.composite
def interleavings(draw):
    """Images and positions of 12 frames: lost, twice, in any order; some positions before the start."""
    copies = st.sampled_from([0, 1, 1, 1, 2])
    images = [("image", n) for n in range(12) for _ in range(draw(copies))]
    positions = [("positions", n) for n in range(12) for _ in range(draw(copies))]
    early = [message for message in positions if draw(st.booleans())]
    return early, draw(st.permutations(images + positions))


@given(told=interleavings(), batch_frames=st.integers(1, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_frames_whose_image_and_position_came_are_stitched(
    journey, tiny_file, stream, told, batch_frames
):
    early, rest = told
    images = only(stream(frames=12), Image)

    def event(message):
        kind, n = message
        return images[n] if kind == "image" else Positions("tiny", n, tiny_file.positions_m[n : n + 1])

    start = ScanStart("tiny", (32, 32), np.dtype("<u2"), frames=12, object_pixel_m=PIXEL_M)
    events = [*map(event, early), start, *map(event, rest), ScanEnd("tiny")]
    run = journey(batch_frames=batch_frames, join_deadline_s=1.0).take(events).wait(3.2).result()
    came = {kind: {n for k, n in early + rest if k == kind} for kind in ("image", "positions")}
    assert stitched(run) == sorted(came["image"] & came["positions"])
    dropped = run.ledger.counts().dropped
    assert dropped.get("no_position", 0) == len(came["image"] - came["positions"])
    assert dropped.get("never_arrived", 0) == 12 - len(came["image"])
