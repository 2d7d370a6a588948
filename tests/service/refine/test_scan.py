"""The refinement of one scan, step by step, without a thread."""

from dataclasses import replace

import numpy as np
import pytest

from model.bundle import load_bundle
from model.refinement import ObjectRefinement
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.mosaic import Mosaic
from service.refine.scan import ScanRefinement, State

FRAMES = 64
FRAME_BYTES = 32 * 32 * 2
AMPLE = 1 << 24


@pytest.fixture
def refinement(taken, engine):
    return ScanRefinement(taken.finished[0].mosaic, engine, AMPLE)


@pytest.fixture(scope="module")
def brighter(bundle_maker, tmp_path_factory):
    """An engine of the same shapes whose amplitudes are a little larger."""
    made = bundle_maker(tmp_path_factory.mktemp("b"), "brighter", gain=1.1)
    return OnnxRuntimeEngine(load_bundle(made), threads=1)


def add(refinement, painted):
    return sum(refinement.add(batch.tiles, batch.counts) for batch in painted)


def take_in(refinement, frames=FRAMES):
    while refinement.report()["frames"] < frames:
        assert refinement.step()


def sweep(refinement, sweeps=1):
    goal = refinement.report()["sweeps"] + sweeps
    while refinement.report()["sweeps"] < goal:
        assert refinement.step()


def test_before_the_first_sweep_there_is_nothing_to_see(refinement, painted):
    add(refinement, painted)
    take_in(refinement)
    for _ in range(5):
        assert refinement.step()
    assert refinement.refined() is None
    assert refinement.report()["residual_after"] is None


def test_sweeps_lower_the_residual_and_settle(refinement, painted):
    add(refinement, painted)
    assert refinement.report()["state"] == State.WAITING
    sweep(refinement, 2)
    report = refinement.report()
    assert (report["state"], report["frames"], report["left_out"]) == (State.REFINING, FRAMES, 0)
    assert report["residual_after"] < 0.5 * report["residual_before"]
    for _ in range(300 * FRAMES):
        if not refinement.step():
            break
    assert refinement.state is State.SETTLED
    assert not refinement.step()


def with_angles(painted, seed=7, spread_rad=0.6):
    """Return what was stitched, each tile turned by an angle of its own, and a mosaic of it."""
    dice = np.random.default_rng(seed)
    turned = []
    for batch in painted:
        tiles = batch.tiles
        phasors = (tiles.cos + 1j * tiles.sin) * np.exp(1j * dice.normal(0, spread_rad, len(tiles.cos)))[
            :, None, None
        ]
        cos, sin = (part.astype(np.float32) for part in (phasors.real, phasors.imag))
        turned.append(replace(batch, tiles=replace(tiles, cos=cos, sin=sin)))
    return turned


def mosaic_of(batches, mosaic):
    found = Mosaic(mosaic.object_pixel_m, mosaic.weight)
    for batch in batches:
        found.add(batch.tiles)
    return found


def test_turned_tiles_explain_the_frames_better_before_the_first_sweep(taken, painted, engine):
    scattered = with_angles(painted)
    mosaic = mosaic_of(scattered, taken.finished[0].mosaic)
    plain, turning = (ScanRefinement(mosaic, engine, AMPLE) for _ in range(2))
    add(plain, scattered)
    plain._start.release()
    add(turning, scattered)
    for refinement in (plain, turning):
        take_in(refinement)
    assert turning.report()["turned"] == FRAMES
    assert turning.report()["residual_before"] < plain.report()["residual_before"]


def test_when_memory_is_short_tiles_make_room_for_frames_and_are_counted(taken, painted, engine):
    refinement = ScanRefinement(taken.finished[0].mosaic, engine, FRAMES * FRAME_BYTES)
    assert add(refinement, painted) == 0
    assert refinement.unturned == FRAMES
    sweep(refinement)
    report = refinement.report()
    assert (report["turned"], report["unturned"], report["frames"]) == (0, FRAMES, FRAMES)


def test_what_a_changed_model_paints_is_turned_to_fit_what_the_first_one_painted(
    journey, stream, engine, brighter
):
    told = journey()
    events = stream()
    told.take(events[: len(events) // 2])
    told.swap(brighter)
    told.take(events[len(events) // 2 :])
    mosaic, painted = told.result().mosaic, told.painted
    assert "model" in told.finished[0].warnings
    refinement = ScanRefinement(mosaic, engine, AMPLE)
    assert add(refinement, painted) == 0
    sweep(refinement, 2)
    assert refinement.report()["turned"] == FRAMES
    assert refinement.report()["residual_after"] < refinement.report()["residual_before"]


def test_a_scan_gone_on_with_turns_the_tiles_that_came_since(taken, painted, engine):
    whole = taken.finished[0].mosaic
    resumed = Mosaic(whole.object_pixel_m, whole.weight)
    resumed.restore(mosaic_of(painted[:2], whole).state())
    refinement = ScanRefinement(resumed, engine, AMPLE)
    for batch in painted[2:]:
        resumed.add(batch.tiles)
    since = sum(len(batch.counts) for batch in painted[2:])
    add(refinement, painted[2:])
    sweep(refinement, 2)
    report = refinement.report()
    assert (report["turned"], report["frames"]) == (since, since)
    assert report["residual_after"] < report["residual_before"]
    assert refinement.refined().bounds() == resumed.bounds()


def test_the_refined_object_has_the_grid_of_the_mosaic(refinement, painted, taken):
    add(refinement, painted)
    sweep(refinement)
    refined, plain = refinement.refined(), taken.finished[0].mosaic
    assert (refined.bounds(), refined.object_pixel_m) == (plain.bounds(), plain.object_pixel_m)
    np.testing.assert_array_equal(refined.image("coverage") > 0, plain.image("coverage") > 0)
    assert np.abs(refined.object() - plain.object()).max() > 0.1


def test_the_mosaic_itself_is_not_touched(refinement, painted, taken):
    before = taken.finished[0].mosaic.object()
    add(refinement, painted)
    sweep(refinement)
    np.testing.assert_array_equal(taken.finished[0].mosaic.object(), before)


@pytest.mark.parametrize("room", [20, 40, 63])
def test_frames_beyond_the_budget_are_left_out_and_counted(taken, painted, engine, room):
    refinement = ScanRefinement(taken.finished[0].mosaic, engine, room * FRAME_BYTES)
    assert add(refinement, painted) == FRAMES - room
    sweep(refinement)
    assert (refinement.report()["frames"], refinement.report()["left_out"]) == (room, FRAMES - room)


def test_frames_too_far_apart_for_the_budget_are_left_out(taken, painted, engine):
    refinement = ScanRefinement(taken.finished[0].mosaic, engine, AMPLE)
    far_m = np.array([[0.0, 0.0], [1e-3, 1e-3], [4e-8, 4e-8]])
    first = painted[0].tiles
    three = replace(
        first, positions_m=far_m, amplitude=first.amplitude[:3], cos=first.cos[:3], sin=first.sin[:3]
    )
    assert refinement.add(three, painted[0].counts[:3]) == 1


def test_frames_that_come_later_are_taken_in_before_the_sweep_goes_on(refinement, painted):
    add(refinement, painted[:1])
    sweep(refinement, 2)
    refinement.step()
    add(refinement, painted[1:])
    take_in(refinement)
    assert (refinement.report()["frames"], refinement.report()["sweeps"]) == (FRAMES, 2)
    sweep(refinement, 2)
    assert refinement.report()["residual_after"] < refinement.report()["residual_before"]


def test_a_settled_refinement_goes_on_with_new_frames(refinement, painted):
    add(refinement, painted[:1])
    while refinement.step():
        pass
    assert refinement.state is State.SETTLED
    add(refinement, painted[1:])
    assert refinement.step()
    assert refinement.state is State.REFINING


def test_a_refinement_that_diverges_begins_again_with_shorter_steps(taken, painted, loaded_bundle):
    overshooting = ObjectRefinement(loaded_bundle.probe, alpha=1e-3)  # steps are hardly bounded in the dark
    refinement = ScanRefinement(taken.finished[0].mosaic, overshooting, AMPLE)
    add(refinement, painted)
    while refinement.step():
        pass
    report = refinement.report()
    assert (report["state"], report["frames"]) == (State.SETTLED, FRAMES)
    assert report["step"] == pytest.approx(0.3)
    assert report["residual_after"] < 0.1 * report["residual_before"]
    assert refinement.refined() is not None


def test_what_no_step_is_short_enough_for_is_discarded_and_told_in_plain_values(refinement, painted, taken):
    tiles = painted[0].tiles
    taken.finished[0].mosaic.add(replace(tiles, amplitude=np.full_like(tiles.amplitude, 1e30)))
    add(refinement, painted)
    while refinement.step():
        pass
    report = refinement.report()
    assert report["state"] == "discarded: the residual grew"
    assert (report["residual_before"], report["residual_after"]) == (None, None)
    assert refinement.refined() is None
    assert refinement.ended


def test_the_frames_of_an_ended_refinement_are_let_go_and_the_object_stays(refinement, painted):
    add(refinement, painted)
    sweep(refinement)
    refinement.end(State.SUPERSEDED)
    assert not refinement.step()
    assert refinement.refined() is not None
    assert refinement.report()["state"] == "stopped: the next scan began"
