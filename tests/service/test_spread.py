"""Tiles added to blocks: the compiled way beside NumPy's."""

import sys
import threading
import time

import numpy as np
import pytest

from service.messages import Tiles
from service.mosaic import Mosaic
from service.planes import SUMS
from service.spread import Part, spread_in_numpy

compiled = pytest.importorskip("service.compiled", reason="there was no compiler")

SHAPE, BLOCK_PX = (9, 12), 8
WHOLE, HALF = [0.0, 0.0], [0.5, 0.5]


def made(tiles, sums=SUMS, seed=0):
    """Return planes and weight of random tiles; pixels of the first column get no light."""
    random = np.random.default_rng(seed)
    planes = list(random.normal(size=(sums, tiles, *SHAPE)).astype(np.float32))
    weight = random.uniform(size=SHAPE).astype(np.float32)
    weight[:, 0] = 0
    return planes, weight


def everywhere(corners):
    """Return all blocks from (-2, -2) to (3, 3), and the parts of tiles at these corners in each."""
    blocks = np.zeros((6, 6, SUMS, BLOCK_PX, BLOCK_PX), np.float32)
    parts = [
        Part(tile, blocks[by, bx], y - (by - 2) * BLOCK_PX, x - (bx - 2) * BLOCK_PX)
        for tile, (y, x) in enumerate(corners)
        for by, bx in np.ndindex(6, 6)
    ]
    return blocks, parts


def both(planes, weight, fractions, corners):
    """Return the blocks of the compiled way and of NumPy's."""
    results = []
    for spread in (compiled.spread, spread_in_numpy):
        blocks, parts = everywhere(corners)
        spread(planes, weight, np.array(fractions, np.float32), parts)
        results.append(blocks)
    return results


@pytest.mark.parametrize("fraction", [WHOLE, HALF, [0.0, 0.75], [0.999, 0.0], [1.0, 1.0], [0.3, 0.6]])
@pytest.mark.parametrize("corner", [(0, 0), (-9, -13), (7, 7), (-1, 16)])
def test_a_tile_is_the_same_compiled_at_whole_and_part_pixels_across_blocks(corner, fraction):
    quick, slow = both(*made(1), [fraction], [corner])
    assert np.count_nonzero(slow) > SUMS * 90
    np.testing.assert_allclose(quick, slow, atol=1e-6)


@pytest.mark.parametrize("sums", [4, SUMS])
def test_many_tiles_are_the_same_compiled_and_a_sum_without_plane_stays_empty(sums):
    random = np.random.default_rng(1)
    corners = random.integers(-12, 30, (40, 2)).tolist()
    quick, slow = both(*made(40, sums), random.uniform(size=(40, 2)), corners)
    np.testing.assert_allclose(quick, slow, atol=2e-5)
    assert not quick[:, :, sums:].any()


def test_the_light_of_a_tile_is_conserved():
    planes, weight = made(1)
    planes[0][:] = 1
    blocks, _ = both(planes, weight, [[0.3, 0.8]], [(5, -3)])
    assert blocks[:, :, 0].sum() == pytest.approx(weight.sum(), rel=1e-5)


def test_planes_that_repeat_one_value_for_all_tiles_need_no_memory():
    planes, weight = made(3)
    shared = [np.broadcast_to(plane[:1], plane.shape) for plane in planes]
    quick, slow = both(shared, weight, [WHOLE, HALF, HALF], [(0, 0), (3, 3), (9, -9)])
    np.testing.assert_allclose(quick, slow, atol=1e-6)


@pytest.mark.parametrize("wrong", ["tile", "plane", "rows", "block", "dtype"])
def test_what_would_be_read_or_written_beyond_its_end_is_refused(wrong):
    planes, weight = made(2)
    block, tile = np.zeros((SUMS, BLOCK_PX, BLOCK_PX), np.float32), 0
    if wrong == "tile":
        tile = 2
    elif wrong == "plane":
        planes[1] = planes[1][:, :-1]
    elif wrong == "rows":
        planes[1] = np.asfortranarray(planes[1])
    elif wrong == "block":
        block = block[:2].copy()
    else:
        planes[1] = planes[1].astype(np.float64)
    with pytest.raises((IndexError, ValueError)):
        compiled.spread(planes, weight, np.zeros((2, 2), np.float32), [Part(tile, block, 0, 0)])
    assert not block[1:].any()


def test_others_run_while_tiles_are_added():
    planes, weight = made(1)
    block, about_to, done = np.zeros((SUMS, BLOCK_PX, BLOCK_PX), np.float32), threading.Event(), []

    def work():
        parts = [Part(0, block, 0, 0)] * 100_000
        about_to.set()
        compiled.spread(planes, weight, np.zeros((1, 2), np.float32), parts)
        done.append(True)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)  # a thread gives way only when it lets go of the interpreter itself
    try:
        worker = threading.Thread(target=work)
        worker.start()
        about_to.wait()
        assert not done
    finally:
        sys.setswitchinterval(interval_s)
        worker.join()


@pytest.mark.long
def test_compiled_a_core_stitches_more_than_twice_as_many_tiles(capsys):
    random, n, side, pixel_m = np.random.default_rng(2), 64, 64, 1e-8
    planes = random.uniform(size=(3, n, side, side)).astype(np.float32)
    confidence = np.broadcast_to(np.float32(0.7), (n, side, side))
    positions_m = random.uniform(0, 300 * pixel_m, (n, 2))
    tiles = Tiles("scan", np.arange(n), positions_m, *planes, np.zeros(n, np.int64), confidence)
    weight = random.uniform(size=(side, side)).astype(np.float32)
    mosaics = [Mosaic(pixel_m, weight, spread=spread) for spread in (compiled.spread, spread_in_numpy)]
    spent_s = np.array([[spent_cpu_s(mosaic, tiles) for mosaic in mosaics] for _ in range(100)])
    rates_hz = n / spent_s.min(axis=0)  # others use the machine too
    with capsys.disabled():
        print("\n64² tiles a second of one core: {:.0f} compiled, {:.0f} in NumPy".format(*rates_hz))
    assert rates_hz[0] > 2 * rates_hz[1]


def spent_cpu_s(mosaic, tiles):
    begun_s = time.thread_time()
    mosaic.add(tiles)
    return time.thread_time() - begun_s
