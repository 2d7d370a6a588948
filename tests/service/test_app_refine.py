"""The running service refines the mosaic when the stream leaves it time, and shows it over HTTP."""

import io
import json
import time

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

FRAMES = 64
PATIENCE_S = 30.0


def refined(running, sweeps=1, frames=FRAMES):
    """Wait for sweeps of the scan's refinement by so many frames, and return what is told of it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (report := running.report()["refinement"])["sweeps"] < sweeps or report["frames"] < frames:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return report


def plane(running, **query):
    answer = running.http.get("/api/scans/tiny/mosaic", params={"format": "npy", **query})
    return np.load(io.BytesIO(answer.raise_for_status().content))


@pytest.fixture
def finished(serve):
    running = serve()
    running.replay()
    running.finished()
    return running


@pytest.mark.parametrize("channel", ["phase", "amplitude"])
def test_the_refined_mosaic_lies_on_the_grid_of_the_plain_one(finished, channel):
    report = refined(finished)
    assert report["residual_after"] < report["residual_before"]
    assert (report["frames"], report["left_out"]) == (FRAMES, 0)
    shown, plain = plane(finished, channel=channel, refined=True), plane(finished, channel=channel)
    assert (shown.shape, shown.dtype) == (plain.shape, np.float32)
    assert np.abs(shown - plain).max() > 0.01


def test_the_refined_mosaic_comes_in_all_formats(finished):
    refined(finished)
    answers = {
        name: finished.http.get(
            "/api/scans/tiny/mosaic", params={"refined": True, "format": name, "channel": "amplitude"}
        )
        for name in ("tiff", "png")
    }
    shape = plane(finished, channel="amplitude").shape
    assert tifffile.imread(io.BytesIO(answers["tiff"].content)).shape == shape
    assert Image.open(io.BytesIO(answers["png"].content)).size == shape[::-1]
    assert 'filename="tiny-refined-amplitude.png"' in answers["png"].headers["content-disposition"]


def test_what_is_not_refined_is_said(finished):
    answer = finished.http.get("/api/scans/tiny/mosaic", params={"refined": True, "channel": "agreement"})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "channel: only amplitude, phase, unwrapped are refined",
    )


def test_without_refinement_the_report_says_none_and_the_picture_is_not_found(serve):
    running = serve(refine=False)
    running.replay()
    running.finished()
    assert running.report()["refinement"] is None
    answer = running.http.get("/api/scans/tiny/mosaic", params={"refined": True})
    assert answer.status_code == 404
    assert "without it" in answer.json()["error"]


def test_frames_that_stream_in_leave_no_time_to_refine_until_they_pause(serve):
    running = serve(end_grace_s=10.0)
    sender, messages = running.sender(), running.messages()
    began_s = time.monotonic()
    for parts in messages[:41]:
        sender.send_multipart(parts)
        time.sleep(0.01)
    streamed_s = time.monotonic() - began_s
    assert running.report()["refinement"]["seconds"] < 0.5 * streamed_s
    assert refined(running, sweeps=2, frames=40)["frames"] == 40
    for parts in messages[41:]:
        sender.send_multipart(parts)
    running.finished()
    assert refined(running, sweeps=4)["residual_after"] > 0
    assert plane(running, refined=True).shape == plane(running).shape


def test_the_result_file_has_the_refined_object_beside_the_networks(finished):
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        answer = finished.http.get("/api/scans/tiny/result.h5")
        with h5py.File(io.BytesIO(answer.content)) as file:
            entry = file["entry"]
            if "refinement" in entry:
                told = json.loads(entry["refinement"][()])
                refined_phase, phase = entry["refined_phase/data"][()], entry["phase/data"][()]
                assert entry.attrs["default"] == "phase"  # what opens first is what the network said
                break
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert told["ended"]
    assert told["residual_after"] < told["residual_before"]
    assert refined_phase.shape == phase.shape
    np.testing.assert_array_equal(refined_phase, plane(finished, channel="phase", refined=True))
