"""A measured scan on the live page: detector, service and browser are processes of their own."""

from __future__ import annotations

import io
import itertools
import re
import signal

import numpy as np
import pytest

pytestmark = pytest.mark.browser

LIVE = "window.ptycholive.state"
PATIENCE_S = 120  # the machine may be busy
RATE_HZ = 60
FRAMES = 516


@pytest.fixture(scope="module")
def service(serve):
    return serve()


def stitched(page) -> int:
    """The frames that the page tells are stitched."""
    return page.ask(f"{LIVE}.scan?.ledger.stitched ?? 0")


def look(page) -> dict[str, float]:
    """How much of the mosaic is on the page."""
    covered = (
        "[...Array(128).keys()].flatMap((row) => [...Array(128).keys()].map((column) => "
        "window.ptycholive.pixelAt(6 * row, 6 * column))).filter(Boolean).length"
    )
    blocks = page.ask("window.ptycholive.blocks")
    return {"stitched": stitched(page), "blocks": blocks, "covered": page.ask(covered) if blocks else 0}


def follow(page, service, scan: str, **settings) -> None:
    """Open the page, begin a scan, and wait until it is on the page."""
    page.open(service.url)
    service.replay(scan, **settings)
    page.until(lambda: page.text("#scan-name") == scan, PATIENCE_S)
    page.until(lambda: page.ask("window.ptycholive.blocks"), PATIENCE_S)


def does_panel_fit(page) -> bool:
    return page.ask(
        "document.querySelector('.panel').scrollHeight <= document.querySelector('.panel').clientHeight"
    )


def test_the_star_grows_on_the_page_until_all_of_it_is_there(page, service):
    follow(page, service, "live-star", rate=RATE_HZ)
    looks = []
    for share in (0.1, 0.3, 0.6):
        page.until(lambda share=share: stitched(page) > share * FRAMES, PATIENCE_S)
        looks.append(look(page))
    assert page.text("#connection") == "live"
    assert page.text("#scan-state") == "running"
    assert re.fullmatch(r"\d+ of 516 frames stitched", page.text("#progress-frames"))
    assert page.text("#progress-left").endswith(" left")
    assert float(page.text("#rate-frames")) > 0
    assert page.text("#rate-p50").endswith("s")
    page.keep("live-star-midway-1366")
    assert does_panel_fit(page)
    page.until(lambda: page.text("#scan-state") == "finished", PATIENCE_S)
    looks.append(look(page))
    for sooner, later in itertools.pairwise(looks):
        assert later["blocks"] >= sooner["blocks"]
        assert later["covered"] > sooner["covered"]
    assert page.text("#progress-frames") == "516 of 516 frames stitched"
    assert "expected 516" in page.text("#ledger")
    assert "stitched 516" in page.text("#ledger")
    assert "onnxruntime" in page.text("#facts")
    assert service.report("live-star")["model"] in page.text("#facts")
    assert page.ask(f"{LIVE}.channel") == "phase"
    assert not page.find("#warnings").is_displayed()
    assert does_panel_fit(page)
    page.keep("live-star-1366")
    with page.window(2560, 1440):
        page.keep("live-star-2560")
    assert page.browser.get_log("browser") == []


def test_a_reload_in_mid_scan_goes_on_where_the_scan_is(page, service):
    follow(page, service, "reloaded", frames=150, rate=40)
    page.until(lambda: stitched(page) > 40, PATIENCE_S)
    before = look(page)
    page.browser.refresh()
    page.until(lambda: stitched(page) >= before["stitched"], PATIENCE_S)
    page.until(lambda: look(page)["covered"] >= before["covered"], PATIENCE_S)
    page.until(lambda: page.text("#scan-state") == "finished", PATIENCE_S)
    assert page.text("#progress-frames") == "150 of 150 frames stitched"


def test_the_read_out_is_the_value_of_the_api(page, service):
    follow(page, service, "read-out", frames=60)
    page.until(lambda: page.text("#scan-state") == "finished", PATIENCE_S)
    query = {"channel": "phase", "format": "npy"}
    phase = np.load(io.BytesIO(service.http.get("/api/scans/read-out/mosaic", params=query).content))
    row, column = (size // 2 for size in phase.shape)
    page.until(lambda: page.ask(f"window.ptycholive.pixelAt({row}, {column})"))
    page.hover(row, column)
    page.until(lambda: page.text("#read-phase").endswith("rad"))
    told = float(page.text("#read-phase").removesuffix(" rad").replace("−", "-"))
    assert told == pytest.approx(phase[row, column], abs=2e-3)


def test_the_page_finds_a_service_that_was_killed_and_shows_the_next_scan(page, serve):
    service = serve()
    follow(page, service, "interrupted", rate=30)
    page.until(lambda: stitched(page) > 20, PATIENCE_S)
    service.detectors[-1].stop()
    service.end(signal.SIGKILL)
    page.until(lambda: page.text("#connection") == "reconnecting…", PATIENCE_S)
    assert page.text("#stamp").startswith("Not live")
    service.start(port=int(service.url.rpartition(":")[2]))
    page.until(lambda: page.text("#connection") == "live", PATIENCE_S)
    service.replay("next", frames=60)
    page.until(lambda: page.text("#scan-name") == "next", PATIENCE_S)
    page.until(lambda: page.text("#progress-frames") == "60 of 60 frames stitched", PATIENCE_S)
    assert not page.find("#stamp").is_displayed()
