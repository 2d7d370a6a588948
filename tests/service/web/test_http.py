"""The HTTP API, through a real server."""

from __future__ import annotations

import io
import json
import socket

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from service.colours import COLOUR_MAPS
from service.errors import ConfigError
from service.web.http import WebServer

CHANNELS = ("amplitude", "phase", "agreement", "coverage")


def test_status_and_scans_are_what_the_service_says(client, view):
    assert client.get("/api/status").json() == view.status()
    assert client.get("/api/scans").json() == view.scans()
    assert client.get("/api/scans/star").json() == view.scan("star")


@pytest.mark.parametrize("channel", CHANNELS)
def test_npy_holds_the_mosaic_as_float32(client, view, channel):
    answer = client.get("/api/scans/star/mosaic", params={"channel": channel, "format": "npy"})
    plane = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert plane.dtype == np.float32
    np.testing.assert_array_equal(plane, view.mosaic("star").image(channel))


def test_tiff_holds_the_mosaic_and_its_pixel_size(client, view):
    answer = client.get("/api/scans/star/mosaic", params={"channel": "phase", "format": "tiff"})
    with tifffile.TiffFile(io.BytesIO(answer.content)) as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), view.mosaic("star").image("phase"))
        pixels, centimetres = page.tags["XResolution"].value
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        assert 1e-2 * centimetres / pixels == pytest.approx(view.pixel_m, rel=1e-4)


@pytest.mark.parametrize("channel", CHANNELS)
def test_png_is_transparent_where_the_beam_was_not(client, view, channel):
    answer = client.get("/api/scans/star/mosaic", params={"channel": channel, "format": "png"})
    opaque = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))[..., 3] > 0
    np.testing.assert_array_equal(opaque, view.mosaic("star").image("coverage") > 0)


def test_png_of_the_phase_does_not_depend_on_the_gauge(client, view):
    pictures = []
    for scan, turn_rad in (("here", 0.0), ("turned", 2.5)):
        view.begin(scan)
        view.stitch(40, phase_turn_rad=turn_rad)
        answer = client.get(f"/api/scans/{scan}/mosaic", params={"channel": "phase", "format": "png"})
        pictures.append(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int))
    assert np.quantile(np.abs(pictures[0] - pictures[1]), 0.999) <= 4


def test_a_scan_that_is_not_refined_has_no_refined_picture(client):
    answer = client.get("/api/scans/star/mosaic", params={"refined": True})
    assert (answer.status_code, "no refined mosaic" in answer.json()["error"]) == (404, True)


def test_an_unknown_scan_is_not_found_in_one_line(client):
    for path in ("/api/scans/moon", "/api/scans/moon/mosaic", "/api/scans/moon/result.h5"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "no scan moon" in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "legal"),
    [("channel=phse", CHANNELS), ("format=jpeg", ("npy", "png", "tiff"))],
)
def test_an_unknown_channel_or_format_is_answered_with_the_legal_ones(client, query, legal):
    answer = client.get(f"/api/scans/star/mosaic?{query}")
    assert answer.status_code == 422
    assert all(word in answer.json()["error"] for word in legal)


def test_a_scan_without_stitched_frames_has_no_mosaic(client, view):
    view.begin("dark")
    answer = client.get("/api/scans/dark/mosaic")
    assert (answer.status_code, "no frame" in answer.json()["error"]) == (404, True)


def test_the_unwrapped_phase_is_the_phase_and_whole_turns(client, view):
    query = {"channel": "unwrapped", "format": "npy"}
    plane = np.load(io.BytesIO(client.get("/api/scans/star/mosaic", params=query).content))
    mosaic = view.mosaic("star")
    turns = (plane - mosaic.image("phase"))[mosaic.image("coverage") > 0] / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)
    assert (
        client.get("/api/scans/star/mosaic?channel=unwrapped&format=png").headers["content-type"]
        == "image/png"
    )
    answer = client.get("/api/scans/star/unwrapped")
    coarse, part = np.load(io.BytesIO(answer.content)), json.loads(answer.headers["x-part"])
    assert part == {"bounds": list(mosaic.bounds()), "step": 1, "current": True}
    np.testing.assert_allclose(np.nan_to_num(coarse), plane, atol=1e-4)
    assert client.get("/api/scans/moon/unwrapped").status_code == 404
    assert client.get("/api/scans/star/unwrapped?refined=true").status_code == 404
    view.sweeps = 4
    answer = client.get("/api/scans/star/unwrapped?refined=true")
    assert np.load(io.BytesIO(answer.content)).shape == plane.shape


def test_the_result_file_comes_when_it_is_written(client, view, tmp_path):
    assert client.get("/api/scans/star/result.h5").status_code == 404
    view.result = tmp_path / "star.h5"
    view.result.write_bytes(b"\x89HDF\r\n")
    answer = client.get("/api/scans/star/result.h5")
    assert answer.content == b"\x89HDF\r\n"
    assert 'filename="star.h5"' in answer.headers["content-disposition"]


def test_a_model_is_swapped_by_its_bundle(client, view):
    answer = client.post("/api/model", json={"bundle": "star-unet-0.4"})
    assert (answer.status_code, answer.json()) == (200, {"name": "star-unet-0.4"})
    assert view.model == "star-unet-0.4"


def test_a_refused_bundle_says_why_and_changes_nothing(client, view):
    answer = client.post("/api/model", json={"bundle": "broken"})
    assert answer.status_code == 422
    assert "does not match its sha256" in answer.json()["error"]
    assert view.model == "star-unet-0.3"


@pytest.mark.parametrize("body", [{}, {"bundle": 3}, {"bundle": ""}, {"bundle": "a", "force": True}])
def test_a_malformed_swap_is_refused(client, body):
    answer = client.post("/api/model", json=body)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]


def test_orders_are_passed_on_and_their_refusals_are_one_line(client, view):
    turn = {"frames": "rotate90", "positions": "y,x"}
    refused = client.post("/api/orientation", json=turn)
    assert (refused.status_code, "is running" in refused.json()["error"]) == (422, True)
    assert client.post("/api/scans/star/abort", json={}).json()["finished"] is not None
    assert client.post("/api/orientation", json=turn).json() == view.orientation == turn
    assert client.post("/api/scans/star/abort").status_code == 422
    assert client.post("/api/scans/moon/abort").status_code == 404
    assert [each["active"] for each in client.get("/api/models").json()] == [True, False]


def test_readiness_follows_the_service(client, view):
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    view.warnings = ["the engine is being started"]
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the engine is being started")


def test_metrics_pass_through_unchanged(client, view):
    answer = client.get("/metrics")
    assert (answer.content, answer.headers["content-type"]) == view.metrics()


def test_the_api_describes_itself_without_any_outside_file(client):
    page = client.get("/docs").text
    assert "//" not in page
    for path in ("/swagger/swagger-ui-bundle.js", "/swagger/swagger-ui.css", "/static/docs.js"):
        assert path in page
        assert client.get(path).status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/status", "/api/scans/{scan}/mosaic", "/api/model", "/healthz"} <= paths.keys()


def test_every_answer_carries_the_security_headers(client):
    for path in ("/", "/static/main.js", "/api/status", "/api/scans/moon"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"


def test_a_taken_port_is_one_line_for_the_operator(view):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            WebServer(view, port=port).start()


def test_a_stopped_server_can_start_again_on_its_port(view):
    first = WebServer(view, port=0)
    first.start()
    assert httpx.get(f"{first.url}/healthz").status_code == 200
    first.stop()
    second = WebServer(view, port=first.port)
    second.start()
    assert httpx.get(f"{second.url}/healthz").status_code == 200
    second.stop()


def test_the_page_is_given_the_same_colours(client):
    tables = client.get("/static/colourmaps.json").json()
    assert {name: bytes.fromhex(text) for name, text in tables.items()} == {
        name: table.tobytes() for name, table in COLOUR_MAPS.items()
    }
