"""A viewer is sent the part and the level of the mosaic that it looks at."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

LIVE = runpy.run_path(str(Path(__file__).parent / "test_live.py"))
watching, npy, assert_same_to_float16 = (LIVE[name] for name in ("watching", "npy", "assert_same_to_float16"))
ALL = [-1000, 1000]


def window(level, rows=ALL, columns=ALL):
    return {"level": level, "rows": rows, "columns": columns}


@pytest.fixture
def watcher(serve, view):
    view.stitch(340)
    with watching(serve().url) as watcher:
        watcher.connection.send('{"windows": []}')
        watcher.watch()
        watcher.blocks.clear()
        watcher.received_blocks = 0
        yield watcher


def test_nothing_but_the_state_is_sent_to_who_looks_at_nothing(watcher):
    watcher.wish(windows=[])
    assert watcher.received_blocks == 0
    assert watcher.state["mosaic"]["coarsest"] == 7


def test_only_blocks_within_the_windows_are_sent(watcher, view):
    watcher.wish(windows=[window(0, [1, 3], [2, 4])])
    painted = view.mosaic("star").changed_since(0)
    assert watcher.blocks.keys() == {(by, bx) for by, bx in painted if 1 <= by < 3 and 2 <= bx < 4}


def test_a_window_that_moves_brings_only_what_comes_into_sight(watcher):
    watcher.wish(windows=[window(0, [0, 3], [0, 3])])
    before = watcher.received_blocks
    watcher.blocks.clear()
    watcher.wish(windows=[window(0, [0, 3], [1, 4])])
    assert {bx for _, bx in watcher.blocks} == {3}
    assert watcher.received_blocks - before == 3


def test_what_went_out_of_sight_is_sent_anew_when_it_comes_back(watcher):
    for columns in ([0, 2], [3, 4], [0, 2]):
        watcher.blocks.clear()
        watcher.wish(windows=[window(0, [0, 2], columns)])
    assert watcher.blocks.keys() == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_wishes_that_overtake_one_another_leave_nothing_out(watcher):
    """The viewer forgets what a wish leaves out, even where the next wish comes before any block."""
    watcher.wish(windows=[window(0, [0, 2], [0, 2])])
    watcher.blocks.clear()
    watcher.connection.send(json.dumps({"windows": [window(0, [3, 4], [3, 4])]}))
    watcher.wish(windows=[window(0, [0, 2], [0, 2])])
    assert watcher.blocks.keys() >= {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_coarse_level_shows_the_mean_amplitude_of_what_lies_under_it(watcher, view):
    watcher.wish(windows=[window(2)])
    mosaic = view.mosaic("star")
    side = 4 * mosaic.block_px
    coverage, amplitude = (
        mosaic.image(name, (0, 0, side, side)).reshape(128, 4, 128, 4) for name in ("coverage", "amplitude")
    )
    expected = (coverage * amplitude).sum((1, 3)) / np.maximum(coverage.sum((1, 3)), 1e-12)
    np.testing.assert_allclose(watcher.coarse[2][0, 0][0], expected, atol=2e-3)


def test_a_tile_that_is_added_changes_the_coarse_blocks_over_it_and_no_others(watcher, view):
    watcher.wish(windows=[window(0), window(1)])
    watcher.blocks.clear()
    watcher.coarse.clear()
    view.stitch(1)
    watcher.watch()
    assert watcher.coarse[1].keys() == {(by // 2, bx // 2) for by, bx in watcher.blocks}
    assert 1 <= len(watcher.blocks) <= 4


def test_the_refined_object_is_shown_when_it_is_wanted_and_there_is_one(watcher, view):
    watcher.wish(refined=True, windows=[window(0)])
    assert watcher.state["refined"] is False
    view.sweeps = 1
    watcher.wish(refined=True, windows=[window(0)])
    assert watcher.state["refined"] is True
    assert_same_to_float16(watcher.picture("amplitude"), view.refined("star").image("amplitude"))
    watcher.wish(windows=[window(0)])
    assert watcher.state["refined"] is False
    assert_same_to_float16(watcher.picture("amplitude"), view.mosaic("star").image("amplitude"))


def test_another_sweep_changes_the_refined_object_without_a_new_generation(watcher, view):
    view.sweeps = 1
    watcher.wish(refined=True, windows=[window(0)])
    generation = watcher.state["mosaic"]["generation"]
    view.sweeps, before = 2, watcher.received_blocks
    while watcher.received_blocks == before:
        watcher.take(4)
    watcher.watch()
    assert watcher.state["mosaic"]["generation"] == generation
    assert_same_to_float16(watcher.picture("amplitude"), view.refined("star").image("amplitude"))


def test_the_path_of_the_beam_is_told_to_who_wants_it(watcher, view):
    assert watcher.state["path_px"] is None
    watcher.wish(path=True, windows=[])
    corners = view.corners[:400] + 40
    assert np.abs(np.array(watcher.state["path_px"]) - corners[-200:]).max() <= 0.05
