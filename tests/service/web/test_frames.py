"""The last diffraction patterns, for whoever wants to see what the detector sees."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from service.web.recent import RecentFrames


def told(answer):
    return json.loads(answer.headers["x-frame"])


def batch(first, count=4):
    indices = np.arange(first, first + count)
    return indices, indices[:, None] * [1e-6, 0.0], np.full((count, 8, 8), first, np.uint16)


def recent(frames_kept):
    return RecentFrames("scan", frames_kept * 8 * 8 * 2, 65535)


def test_the_oldest_frames_go_when_the_budget_is_spent():
    kept = recent(8)
    for first in (0, 4, 8):
        kept.add(*batch(first))
    assert kept.numbered(3) is None
    assert kept.numbered(4).counts[0, 0] == 4
    assert kept.newest().index == 11
    assert len(kept.path_m()) == 12


def test_a_batch_beyond_the_budget_is_kept_alone():
    kept = recent(1)
    kept.add(*batch(0))
    assert kept.newest().index == 3


def test_the_frame_nearest_to_a_place_is_found():
    kept = recent(100)
    kept.add(*batch(0))
    kept.add(*batch(4))
    assert kept.nearest(5.2e-6, 1e-6).index == 5


def test_before_the_first_frame_there_is_none():
    kept = recent(1)
    assert (kept.newest(), kept.numbered(0), kept.nearest(0, 0)) == (None, None, None)
    assert kept.path_m().shape == (0, 2)


def test_the_newest_frame_is_given_as_counts(client, view):
    answer = client.get("/api/scans/star/frame?format=npy")
    newest = view.recent("star").newest()
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), newest.counts)
    assert told(answer)["index"] == 59
    assert told(answer)["position_m"] == list(newest.position_m)
    assert told(answer)["masked"] == 36


@pytest.mark.parametrize("index", [0, 17])
def test_a_frame_is_found_by_its_number_and_by_its_place(client, view, index):
    by_number = told(client.get(f"/api/scans/star/frame?index={index}"))
    y_m, x_m = by_number["position_m"]
    assert by_number["index"] == index
    assert told(client.get(f"/api/scans/star/frame?y_m={y_m}&x_m={x_m}"))["position_m"] == [y_m, x_m]


def test_masked_and_saturated_pixels_have_colours_of_their_own(client, view):
    counts = view.recent("star").newest().counts
    picture = np.asarray(Image.open(io.BytesIO(client.get("/api/scans/star/frame").content)).convert("RGB"))
    assert (picture[:6, :6] == [42, 58, 92]).all()
    saturated = (counts >= 30_000) & (counts < 65535)
    assert saturated.any()
    assert (picture[saturated] == [255, 64, 88]).all()
    assert not (picture[~saturated] == [255, 64, 88]).all(axis=1).any()


@pytest.mark.parametrize("query", ["index=5000", "index=-1"])
def test_a_frame_that_is_not_kept_is_told_so(client, query):
    answer = client.get(f"/api/scans/star/frame?{query}")
    assert (answer.status_code, "not kept" in answer.json()["error"]) == (404, True)


def test_of_an_earlier_scan_no_frames_are_kept(client, view):
    view.begin("next")
    assert client.get("/api/scans/star/frame").status_code == 404
