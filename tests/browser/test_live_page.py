"""The live page in a real browser."""

from __future__ import annotations

import io
import json
import re

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys

from service.web.http import WebServer

pytestmark = pytest.mark.browser

LIVE = "window.ptycholive.state"


def api_pixels(server, channel, scan="star"):
    query = {"channel": channel, "format": "npy"}
    return np.load(io.BytesIO(httpx.get(f"{server.url}/api/scans/{scan}/mosaic", params=query).content))


def number(text):
    return float(re.search(r"[-−]?\d+(\.\d+)?", text)[0].replace("−", "-"))


def painted_share(page):
    """Share of the stage that is neither background nor dots."""
    rgba = np.reshape(page.colours(), (-1, 4)).astype(int)
    return float((np.abs(rgba[:, :3] - [20, 25, 29]).max(axis=1) > 32).mean())


def test_the_page_asks_nobody_else_for_anything(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [
        event["params"].get("request", event["params"]).get("url", "")
        for event in events
        if event["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
    ]
    own = (server.url, server.url.replace("http", "ws"), "data:", "about:")
    assert any(url.endswith("/api/live") for url in asked)
    assert [url for url in asked if not url.startswith(own)] == []
    assert page.browser.get_log("browser") == []


def test_the_mosaic_appears_and_grows(page, server, view):
    view.begin("empty")
    page.open(server.url)
    page.until(lambda: page.find("#empty").is_displayed())
    page.until(lambda: painted_share(page) == 0)
    view.stitch(30)
    page.until_stitched(30)
    page.until(lambda: painted_share(page) > 0.05)
    rows_before = page.ask(f"{LIVE}.mosaic.bounds[2] - {LIVE}.mosaic.bounds[0]")
    view.stitch(300)
    page.until_stitched(330)
    assert page.ask(f"{LIVE}.mosaic.bounds[2] - {LIVE}.mosaic.bounds[0]") > rows_before
    assert page.find("#progress").get_dom_attribute("aria-valuenow") == "330"
    page.until(lambda: painted_share(page) > 0.3)
    page.keep("phase")


@pytest.mark.parametrize("channel", ["amplitude", "phase", "agreement", "coverage", "confidence"])
def test_each_channel_has_its_picture_and_its_colour_bar(page, server, view, channel):
    page.open(f"{server.url}/#channel={'phase' if channel != 'phase' else 'amplitude'}")
    page.until_stitched(60)
    page.until(lambda: painted_share(page) > 0.05)
    before = page.colours()
    page.find(f"[data-channel={channel}]").click()
    page.until(lambda: page.colours() != before)
    assert page.find(f"[data-channel={channel}]").get_dom_attribute("aria-checked") == "true"
    assert channel in page.text("#colourbar-title")
    assert len(page.text("#colourbar-ticks").split()) == 5
    assert f"channel={channel}" in page.find("#downloads a").get_attribute("href")
    page.keep(channel)


def test_pixels_of_the_page_are_those_of_the_api(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    page.until(lambda: page.ask("window.ptycholive.blocks") == len(view.mosaic("star").changed_since(0)))
    coverage = api_pixels(server, "coverage")
    covered = np.argwhere(coverage > 0)[::997]
    for channel in ("amplitude", "phase", "agreement", "confidence"):
        exact = api_pixels(server, channel)
        for row, column in covered.tolist():
            shown = page.ask(f"window.ptycholive.pixelAt({row}, {column})")
            assert shown[channel] == pytest.approx(exact[row, column], rel=1e-3, abs=1e-6)
    row, column = np.argwhere(coverage == 0)[0].tolist()
    assert page.ask(f"window.ptycholive.pixelAt({row}, {column})") is None


def test_the_read_out_tells_the_value_and_place_under_the_cursor(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    phase, amplitude, confidence = (api_pixels(server, each) for each in ("phase", "amplitude", "confidence"))
    row, column = (size // 2 for size in phase.shape)
    page.hover(row, column)
    page.until(lambda: page.find("#readout").is_displayed())
    assert number(page.text("#read-phase")) == pytest.approx(phase[row, column], abs=2e-3)
    assert number(page.text("#read-amplitude")) == pytest.approx(amplitude[row, column], rel=2e-3)
    assert number(page.text("#read-confidence")) == pytest.approx(confidence[row, column], abs=2e-3)
    y0_m, x0_m = view.mosaic("star").origin_m
    y_um, x_um = (float(part) for part in page.text("#read-position").removesuffix("µm").split(","))
    assert y_um == pytest.approx(1e6 * (y0_m + row * view.pixel_m), abs=1e-3)
    assert x_um == pytest.approx(1e6 * (x0_m + column * view.pixel_m), abs=1e-3)


def test_the_wheel_zooms_around_the_cursor(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    place = "[...window.ptycholive.stagePoint(60, 100)]"
    page.hover(60, 100)
    before, scale = page.ask(place), page.ask(f"{LIVE}.viewport.scale")
    canvas = page.find("#mosaic")
    offset = [round(before[0] - canvas.size["width"] / 2), round(before[1] - canvas.size["height"] / 2)]
    ActionChains(page.browser).scroll_from_origin(
        ScrollOrigin.from_element(canvas, *offset), 0, -240
    ).perform()
    page.until(lambda: page.ask(f"{LIVE}.viewport.scale") > 1.3 * scale)
    np.testing.assert_allclose(page.ask(place), before, atol=2)


def test_drag_and_keys_move_the_view_and_fit_brings_it_back(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    fitted = page.ask(f"{LIVE}.viewport")
    canvas = page.find("#mosaic")
    ActionChains(page.browser).drag_and_drop_by_offset(canvas, 120, 60).perform()
    dragged = page.ask(f"{LIVE}.viewport")
    assert fitted["centreX"] - dragged["centreX"] == pytest.approx(120 / fitted["scale"], rel=0.02)
    assert fitted["centreY"] - dragged["centreY"] == pytest.approx(60 / fitted["scale"], rel=0.02)
    assert not dragged["following"]
    canvas.send_keys(Keys.ARROW_RIGHT, "+", "1")
    assert page.ask(f"{LIVE}.viewport.centreX") > dragged["centreX"]
    assert page.ask(f"{LIVE}.viewport.scale") > dragged["scale"]
    assert page.ask(f"{LIVE}.channel") == "amplitude"
    page.find("#zoom-fit").click()
    assert page.ask(f"{LIVE}.viewport") == pytest.approx(fitted)


def test_the_colours_of_the_phase_do_not_depend_on_the_gauge(page, server, view):
    pictures = []
    for scan, turn_rad in (("here", 0.0), ("turned", 3.0)):
        view.begin(scan)
        view.stitch(120, turn_rad)
        page.open(f"{server.url}/?{scan}")
        page.until_stitched(120)
        page.until(lambda: painted_share(page) > 0.1)
        pictures.append(np.array(page.colours(), int))
    assert np.abs(pictures[0] - pictures[1]).mean() < 4


def test_manual_contrast_stays_as_it_is_set(page, server, view):
    page.open(f"{server.url}/#channel=amplitude")
    page.until_stitched(60)
    page.type_into("#low", 0.5)
    page.until(lambda: page.ask(f"{LIVE}.contrast.low") == 0.5)
    view.stitch(60)
    page.until_stitched(120)
    assert page.ask(f"{LIVE}.contrast.low") == 0.5
    assert page.find("#contrast-auto").get_dom_attribute("aria-pressed") == "false"


def test_the_ledger_and_the_warnings_are_on_the_page(page, server, view):
    view.warnings = ["images wait for their position: is the position stream armed?"]
    page.open(server.url)
    page.until_stitched(60)
    ledger = view.scan("star")["ledger"]
    for stage in ("expected", "received", "stitched"):
        assert f"{stage} {ledger[stage]}" in page.text("#ledger")
    assert page.text("#ledger-words") == view.scan("star")["ledger_words"]
    assert page.text("#warnings") == view.warnings[0]


def test_a_reload_shows_the_same_picture(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    page.find("[data-channel=amplitude]").click()
    blocks = page.ask("window.ptycholive.blocks")
    page.browser.refresh()
    page.until_stitched(60)
    page.until(lambda: page.ask("window.ptycholive.blocks") == blocks)
    assert page.ask(f"{LIVE}.channel") == "amplitude"


def test_the_page_survives_a_restart_of_the_service(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    server.stop()
    page.until(lambda: page.text("#connection") == "reconnecting…")
    assert page.find("#stage").get_attribute("data-stale") == "true"
    assert page.text("#stamp").startswith("Not live")
    page.keep("stale")
    view.stitch(60)
    again = WebServer(view, port=server.port)
    again.start()
    try:
        page.until(lambda: page.text("#connection") == "live")
        page.until_stitched(120)
        page.until(lambda: page.ask("window.ptycholive.blocks") == len(view.mosaic("star").changed_since(0)))
        assert not page.find("#stamp").is_displayed()
    finally:
        again.stop()


def test_a_finished_scan_can_be_opened_and_left(page, server, view):
    view.finish()
    view.begin("next")
    view.stitch(20)
    page.open(server.url)
    page.until_stitched(20)
    page.find("[data-scan=star]").click()
    page.until(lambda: page.text("#scan-name") == "star")
    page.until(lambda: page.text("#scan-state") == "finished")
    assert page.find("#downloads a:last-child").get_attribute("href").endswith("/api/scans/star/result.h5")
    page.find("#follow").click()
    page.until(lambda: page.text("#scan-name") == "next")


def test_the_token_in_the_address_lets_the_page_in(page, guarded):
    page.open(f"{guarded.url}/?token=secret")
    page.until_stitched(60)
    assert "secret" not in page.browser.current_url


def test_the_api_documentation_is_drawn(page, server):
    page.open(f"{server.url}/docs")
    page.until(lambda: "/api/scans/{scan}/mosaic" in page.text("body"))
    assert page.browser.get_log("browser") == []
