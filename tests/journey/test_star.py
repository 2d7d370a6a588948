"""The whole measured star: detector → service → everything that can be had of it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
import tifffile
from PIL import Image
from websockets.sync.client import connect

from model.judge import likeness, position_origin_px, resample_to_reference
from model.scans import open_scan

FRAMES = 516
PATIENCE_S = 240
CHANNELS = ("amplitude", "phase", "agreement", "coverage", "confidence")
HEADER = struct.Struct("<4sHHIiiI")


@dataclass
class Star:
    """A service that has taken the star, and what a viewer saw of it meanwhile.

    Attributes:
        service: still running.
        report: of the finished scan.
        states: what the viewer was told, one after another.
        blocks: the newest planes (5, B, B) of each block that the viewer was sent.
    """

    service: Any
    report: dict[str, Any]
    states: list[dict[str, Any]]
    blocks: dict[tuple[int, int], np.ndarray]

    def mosaic(self, channel: str, file_format: str) -> bytes:
        query = {"channel": channel, "format": file_format}
        answer = self.service.http.get("/api/scans/star/mosaic", params=query)
        return answer.raise_for_status().content

    def pixels(self, channel: str) -> np.ndarray:
        return np.load(io.BytesIO(self.mosaic(channel, "npy")))


def watch(socket: Any, scan: str) -> tuple[list[dict[str, Any]], dict[tuple[int, int], np.ndarray]]:
    """Follow the live page's stream until the scan is finished and nothing more is drawn."""
    states: list[dict[str, Any]] = []
    blocks: dict[tuple[int, int], np.ndarray] = {}
    is_still = False
    while True:
        message = socket.recv(timeout=PATIENCE_S)
        if isinstance(message, bytes):
            _, _, px, _, by, bx, _ = HEADER.unpack_from(message)
            blocks[by, bx] = np.frombuffer(message, "<f2", offset=HEADER.size).reshape(5, px, px)
            is_still = False
            continue
        states.append(msgspec.json.decode(message))
        is_finished = states[-1]["name"] == scan and states[-1]["scan"]["finished"] is not None
        if is_finished and is_still:
            return states, blocks
        is_still = is_finished


@pytest.fixture(scope="module")
def star(service) -> Star:
    with connect(service.url.replace("http", "ws") + "/api/live", proxy=None) as socket:
        service.replay("star")
        states, blocks = watch(socket, "star")
    return Star(service, service.finished("star"), states, blocks)


def test_every_frame_is_stitched_and_the_ledger_balances(star, processes):
    ledger = star.report["ledger"]
    assert processes.balanced(ledger)
    assert {
        stage: ledger[stage] for stage in ("expected", "received", "inferred", "stitched")
    } == dict.fromkeys(("expected", "received", "inferred", "stitched"), FRAMES)
    assert (ledger["duplicates"], ledger["dropped"], star.report["warnings"]) == (0, {}, [])


def test_rates_and_latencies_are_told(star):
    rates = star.report["rates"]
    assert rates["mean_frames_per_s"] > 0
    assert 0 < rates["latency_p50_s"] <= rates["latency_p99_s"]


def test_the_phase_is_that_of_the_iterative_reconstruction(star, processes):
    pixel_m = star.report["geometry"]["object_pixel_m"]
    painted = star.pixels("amplitude") * np.exp(1j * star.pixels("phase"))
    with open_scan(processes.SCAN) as scan:
        reference = scan.reference()
        origin, misfit_px = position_origin_px(
            scan.positions_m, reference.positions_px, scan.frame_shape, pixel_m
        )
    assert misfit_px < 0.1
    place = origin + np.array(star.report["geometry"]["origin_m"]) / pixel_m
    shape = reference.object.shape
    seen = resample_to_reference(star.pixels("coverage"), place, shape) > 0.02
    where = seen & (reference.coverage > 0.5 * reference.coverage.max())
    assert (
        likeness(resample_to_reference(painted, place, shape), reference.object, where).phase_correlation
        > 0.85
    )


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_mosaic_is_one_picture_in_all_formats(star, channel):
    pixels = star.pixels(channel)
    assert pixels.dtype == np.float32
    assert np.isfinite(pixels).all()
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(star.mosaic(channel, "tiff"))), pixels)
    picture = Image.open(io.BytesIO(star.mosaic(channel, "png")))
    assert picture.size == pixels.shape[::-1]
    assert np.ptp(np.asarray(picture.convert("L"))) > 100


def test_a_live_viewer_has_the_pixels_of_the_api_when_the_scan_ends(star):
    y0, x0, y1, x1 = star.states[-1]["mosaic"]["bounds"]
    px = star.states[-1]["mosaic"]["block_px"]
    by0, bx0, by1, bx1 = y0 // px, x0 // px, -(-y1 // px), -(-x1 // px)
    canvas = np.zeros((5, (by1 - by0) * px, (bx1 - bx0) * px), np.float16)
    for (by, bx), planes in star.blocks.items():
        canvas[:, (by - by0) * px : (by - by0 + 1) * px, (bx - bx0) * px : (bx - bx0 + 1) * px] = planes
    shown = canvas[:, y0 - by0 * px : y1 - by0 * px, x0 - bx0 * px : x1 - bx0 * px]
    for plane, channel in zip(shown, CHANNELS, strict=True):
        np.testing.assert_array_equal(plane, star.pixels(channel).astype(np.float16))


def test_a_live_viewer_sees_the_scan_progress(star):
    stitched = [state["scan"]["ledger"]["stitched"] for state in star.states if state["scan"] is not None]
    assert stitched == sorted(stitched)
    assert len(set(stitched)) > 3
    assert stitched[-1] == FRAMES


def test_the_metrics_agree_with_the_ledger(star):
    samples, ledger = star.service.metrics(), star.report["ledger"]
    for stage in ("expected", "received", "decoded", "joined", "inferred", "stitched", "duplicates"):
        assert samples["ptycholive_frames_total"][stage,] == ledger[stage]
    assert samples.get("ptycholive_frames_dropped_total", {}) == {}
    assert samples["ptycholive_frame_to_mosaic_seconds_count"][()] == FRAMES
    assert samples["ptycholive_batch_frames_sum"][()] == FRAMES
    assert set(samples["ptycholive_queue_frames"].values()) == {0}
    assert samples["ptycholive_engine_info"] == {("onnxruntime", "cpu", star.report["model"]): 1}
    assert 0 < samples["ptycholive_agreement"][()] <= 1
    assert 0 < samples["ptycholive_forward_residual"][()] < 1


def test_the_result_file_holds_what_the_api_tells(star, processes):
    content = star.service.http.get("/api/scans/star/result.h5").raise_for_status().content
    with h5py.File(io.BytesIO(content)) as file:
        entry = file[file.attrs["default"]]
        for channel in CHANNELS:
            np.testing.assert_array_equal(
                entry[channel][entry[channel].attrs["signal"]], star.pixels(channel)
            )
        for axis, origin_m in zip("yx", star.report["geometry"]["origin_m"], strict=True):
            assert entry["phase"][axis][0] == pytest.approx(origin_m)
        ledger = star.report["ledger"]
        assert {name: entry["ledger"][name][()] for name in ledger if name != "dropped"} == {
            name: number for name, number in ledger.items() if name != "dropped"
        }
        with open_scan(processes.SCAN) as scan:
            np.testing.assert_allclose(entry["positions"], scan.positions_m, rtol=1e-12)
        assert entry["object"].dtype == np.complex64
        assert entry["model/name"].asstr()[()] == star.report["model"]


def test_the_newest_picture_lies_beside_the_result(star):
    shown = sorted(path.name for path in star.service.results.iterdir() if not path.name.startswith("."))
    assert shown == ["latest.png", "star.h5"]
    latest = np.asarray(Image.open(star.service.results / "latest.png"))
    np.testing.assert_array_equal(latest, np.asarray(Image.open(io.BytesIO(star.mosaic("phase", "png")))))
