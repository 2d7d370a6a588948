"""A mosaic as many viewers see it: what is prepared for one serves all."""

import numpy as np
import pytest

from service.messages import Tiles
from service.mosaic import Mosaic
from service.web.feed import Feed

TILE = np.ones((1, 8, 8), np.float32)


def stitch(mosaic, at_px):
    centre_m = np.full((1, 2), at_px * 1e-8)
    mosaic.add(Tiles("s", np.array([0]), centre_m, TILE, TILE, 0 * TILE, np.array([0])))


@pytest.fixture
def mosaic():
    mosaic = Mosaic(1e-8, TILE[0], block_px=32)
    stitch(mosaic, 16)
    return mosaic


def test_one_viewer_sees_the_mosaic_as_it_is_when_it_looks(mosaic):
    feed = Feed(mosaic, 1)
    version, _ = feed.changed_since(0)
    stitch(mosaic, 48)
    assert feed.changed_since(version)[1] == [(1, 1)]


def test_many_viewers_see_what_one_of_them_saw_a_moment_ago_and_the_rest_later(mosaic):
    feed = Feed(mosaic, 1)
    feed.pause_s = 60.0
    version, _ = feed.changed_since(0)
    message = feed.message((0, 0, 0))
    stitch(mosaic, 16)
    assert feed.changed_since(version) == (version, [])
    assert feed.prepared((0, 0, 0)) is message
    feed.pause_s = 0.0
    assert feed.changed_since(version)[1] == [(0, 0)]
    assert feed.prepared((0, 0, 0)) is None


def test_another_object_is_looked_at_at_once(mosaic):
    feed = Feed(mosaic, 1)
    feed.pause_s = 60.0
    version, _ = feed.changed_since(0)
    later = Mosaic(1e-8, TILE[0], block_px=32)
    stitch(later, 80)
    feed.replace(later)
    assert feed.changed_since(version)[1] == [(2, 2)]
