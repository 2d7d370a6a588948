"""Views and tools of the live page: complex and refined object, profile, region, path, pattern, deep zoom."""

from __future__ import annotations

import io
import re

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from service.messages import Tiles
from service.mosaic import Mosaic

pytestmark = pytest.mark.browser

PAGE = "window.ptycholive"
PATIENCE_S = 60  # the machine may be busy
TILE = 512
SIDE = 8  # tiles of the large mosaic each way


def large_mosaic() -> Mosaic:
    """4096 × 4096 pixels, 1024 blocks; the amplitude of each tile is its number, the phase a slow ramp."""
    mosaic = Mosaic(1e-8, np.ones((TILE, TILE), np.float32))
    ramp = np.linspace(-1, 1, TILE, dtype=np.float32) * np.ones((TILE, 1), np.float32)
    for row in range(SIDE):
        numbers = np.arange(1, SIDE + 1, dtype=np.float32) + SIDE * row
        corners = TILE * np.stack([np.full(SIDE, row), np.arange(SIDE)], axis=1)
        positions_m = (corners + TILE // 2) * 1e-8
        amplitude = numbers[:, None, None] * np.ones((TILE, TILE), np.float32)
        cos, sin = (np.broadcast_to(part, amplitude.shape) for part in (np.cos(ramp), np.sin(ramp)))
        times = np.zeros(SIDE, np.int64)
        mosaic.add(Tiles("", np.arange(SIDE), positions_m, amplitude, cos, sin, times))
    return mosaic


def drag(page, from_px, to_px, *, shift=False):
    """Drag from one pixel (row, column) of the mosaic to another."""
    canvas = page.find("#mosaic")
    middle = np.array([canvas.size["width"], canvas.size["height"]]) / 2
    start, end = (np.array(page.ask(f"{PAGE}.stagePoint({y}, {x})")) for y, x in (from_px, to_px))
    actions = ActionChains(page.browser)
    if shift:
        actions.key_down(Keys.SHIFT)
    actions.move_to_element_with_offset(canvas, *np.round(start - middle).astype(int).tolist())
    actions.click_and_hold().move_by_offset(*np.round(end - start).astype(int).tolist()).release()
    actions.key_up(Keys.SHIFT).perform()


def brightness(page) -> float:
    return float(np.reshape(page.colours(), (-1, 4))[:, :3].mean())


@pytest.fixture
def star(page, server, view):
    """The page, with the first rows of the star on it."""
    page.open(server.url)
    page.until_stitched(60)
    page.until(lambda: page.ask(f"{PAGE}.blocks") == len(view.mosaic("star").changed_since(0)))
    return page


def test_a_large_mosaic_is_held_only_as_far_as_it_is_shown(page, server, view):
    view.show("large", large_mosaic())
    page.open(f"{server.url}/#channel=amplitude")
    page.until(lambda: page.ask(f"{PAGE}.blocks") == 16, PATIENCE_S)
    assert page.ask(f"{PAGE}.level") == 3
    page.keep("large")
    scale = page.ask(f"{PAGE}.state.viewport.scale")
    for _ in range(8):
        page.find("#zoom-in").click()
    page.until(lambda: page.ask(f"{PAGE}.level") == 0)
    assert page.ask(f"{PAGE}.state.viewport.scale") > 4 * scale
    page.until(lambda: page.ask(f"{PAGE}.pixelAt(2000, 2000)?.level") == 0, PATIENCE_S)
    assert page.ask(f"{PAGE}.pixelAt(2000, 2000).amplitude") == 28
    page.until(lambda: page.ask(f"{PAGE}.held") < 250)
    assert page.ask(f"{PAGE}.pixelAt(10, 10).level") > 0


def test_coarse_values_are_told_as_means(page, server, view):
    view.show("large", large_mosaic())
    page.open(f"{server.url}/#channel=amplitude")
    page.until(lambda: page.ask(f"{PAGE}.held") == 16, PATIENCE_S)
    ActionChains(page.browser).move_to_element(page.find("#mosaic")).perform()
    page.until(lambda: page.find("#readout").is_displayed())
    assert page.text("#read-level") == "mean of 8 × 8 px"


def test_the_complex_object_has_hues_and_a_field_of_colours(star):
    before = star.colours()
    star.find("[data-channel=complex]").click()
    star.until(lambda: star.colours() != before)
    assert "complex" in star.text("#colourbar-title")
    assert "amplitude" in star.text("#colourbar-brightness")
    assert star.find("#gauge").is_displayed()
    star.keep("complex")


def test_fading_darkens_what_the_tiles_do_not_agree_on(star, view):
    view.stitched = 30
    view.stitch(30, phase_turn_rad=2.5)
    confidence = view.mosaic("star").image("confidence")
    doubtful = np.argwhere((confidence > 0) & (confidence < 0.5))[0].tolist()
    star.until(lambda: star.ask(f"{PAGE}.pixelAt({doubtful[0]}, {doubtful[1]})?.confidence") < 0.5)
    star.until(lambda: brightness(star) > 30)
    before = brightness(star)
    star.find("#tool-fade").click()
    star.until(lambda: brightness(star) < before - 2)
    star.keep("fade")
    faded = brightness(star)
    star.find("#tool-fade").click()
    star.until(lambda: brightness(star) > faded + 2)


def test_gamma_brightens_and_comes_back_to_one(page, server):
    page.open(f"{server.url}/#channel=amplitude")
    page.until_stitched(60)
    page.until(lambda: brightness(page) > 30)
    page.until(lambda: page.find("#gamma").is_displayed())
    before = brightness(page)
    page.browser.execute_script(
        "const g = document.getElementById('gamma'); g.value = -2; g.dispatchEvent(new Event('input'))"
    )
    page.until(lambda: brightness(page) > before + 1)
    assert page.text("#gamma-reset") == "0.50"
    bright = brightness(page)
    page.find("#gamma-reset").click()
    page.until(lambda: page.text("#gamma-reset") == "1.00" and brightness(page) < bright - 1)


def test_another_colour_map_is_shown_at_once_and_kept_by_the_link(page, server):
    page.open(f"{server.url}/#channel=amplitude&contrast=0.8,1.2,1")
    page.until_stitched(60)
    page.until(lambda: page.find("#map").is_displayed())
    assert Select(page.find("#map")).options[0].text == "own"
    Select(page.find("#map")).select_by_visible_text("grey")
    page.until(lambda: "map=grey" in page.browser.current_url)
    page.until(lambda: page.ask(f"{PAGE}.state.contrast.map") == "grey")
    grey = brightness(page)
    Select(page.find("#map")).select_by_visible_text("ink on paper")
    page.until(lambda: abs(brightness(page) - grey) > 1)
    page.keep("ink")
    page.until(lambda: "map=ink" in page.browser.current_url)
    page.browser.refresh()
    page.until_stitched(60)
    page.until(lambda: Select(page.find("#map")).first_selected_option.text == "ink on paper")


def test_phases_have_closed_maps_and_the_complex_object_its_hues(page, server):
    page.open(f"{server.url}/#channel=phase&map=grey")  # an open map: not for angles
    page.until_stitched(60)
    assert page.ask(f"{PAGE}.state.contrast.map") == "phase"
    Select(page.find("#map")).select_by_visible_text("blue and yellow")
    page.until(lambda: "map=twilight" in page.browser.current_url)
    page.keep("twilight")
    page.open(f"{server.url}/#channel=complex")
    page.until(lambda: not page.find("#map").is_displayed())


def test_the_unwrapped_phase_is_drawn_and_read_as_the_api_tells_it(page, server, view):
    view.begin("wrapping")
    view.stitch(60, phase_turn_rad=3.0)
    page.open(f"{server.url}/#channel=unwrapped")
    page.until_stitched(60)
    told = httpx.get(f"{server.url}/api/scans/wrapping/mosaic?channel=unwrapped&format=npy").content
    plane, mosaic = np.load(io.BytesIO(told)), view.mosaic("wrapping")
    turned = np.argwhere((mosaic.image("coverage") > 0.5) & (np.abs(plane - mosaic.image("phase")) > 3))
    row, column = turned[len(turned) // 2].tolist()
    value = f"{PAGE}.pixelAt({row}, {column})?.unwrapped"
    page.until(lambda: page.ask(value) is not None)
    assert page.ask(value) == pytest.approx(float(plane[row, column]), abs=0.01)
    page.until(lambda: brightness(page) > 30)
    page.keep("unwrapped")
    page.hover(row, column)
    page.until(lambda: page.text("#read-unwrapped").endswith(" rad"))
    low, high = page.ask(f"{PAGE}.state.contrast.low"), page.ask(f"{PAGE}.state.contrast.high")
    assert low < float(plane[row, column]) < high


def test_the_refined_object_can_be_chosen_once_there_is_one(star, view):
    assert not star.find("#objects").is_displayed()
    view.sweeps = 4
    star.until(lambda: star.find("#objects").is_displayed())
    assert "4 sweeps, 0.310 → 0.120" in star.text("#facts")
    star.find("[data-object=refined]").click()
    star.until(lambda: star.ask(f"{PAGE}.state.refined"))
    refined = view.refined("star").image("amplitude")
    row, column = (size // 2 for size in refined.shape)
    wanted = pytest.approx(float(refined[row, column]), rel=1e-3)
    star.until(lambda: (star.ask(f"{PAGE}.pixelAt({row}, {column})") or {}).get("amplitude") == wanted)
    assert "refined=true" in star.find("#downloads a").get_attribute("href")
    star.find("#mosaic").send_keys("n")
    star.until(lambda: not star.ask(f"{PAGE}.state.refined"))


def test_a_line_drawn_with_shift_shows_its_length_and_leaves_the_view_where_it_is(star, view):
    before = star.ask(f"{PAGE}.state.viewport")
    drag(star, (40, 60), (40, 260), shift=True)
    star.until(lambda: star.find("#profile").is_displayed())
    length_um = float(re.search(r"([\d.]+) µm", star.text("#profile-title"))[1])
    assert length_um == pytest.approx(200 * view.pixel_m * 1e6, rel=0.02)
    assert star.ask(f"{PAGE}.state.viewport") == before
    drawn, (y0, x0) = star.ask(f"{PAGE}.marks.line"), view.mosaic("star").bounds()[:2]
    points = star.ask(f"{PAGE}.profile.values")
    along = np.linspace(drawn["from"], drawn["to"], len(points)) - [y0, x0]
    rows, columns = np.floor(along[1:-1]).astype(int).T  # the ends may lie on a border of pixels
    for channel in ("amplitude", "phase", "confidence"):
        told = np.array([point[channel] for point in points[1:-1]])
        np.testing.assert_allclose(
            told, view.mosaic("star").image(channel)[rows, columns], rtol=1e-3, atol=1e-3
        )
    star.keep("profile")
    star.find("#profile-close").click()
    assert not star.find("#profile").is_displayed()


def test_statistics_of_a_region_are_those_of_the_mosaic(star, view):
    star.find("[data-channel=amplitude]").click()
    star.find("#mosaic").send_keys("r")
    drag(star, (30, 100), (70, 180))
    star.until(lambda: star.find("#region").is_displayed())
    marked = star.ask(f"{PAGE}.marks.region")
    (y0, x0), (y1, x1) = (np.round(marked[end]).astype(int).tolist() for end in ("from", "to"))
    part = view.mosaic("star").image("amplitude", (y0, x0, y1, x1))
    assert float(star.text("#region-mean")) == pytest.approx(part.mean(), rel=1e-3)
    assert float(star.text("#region-deviation")) == pytest.approx(part.std(), rel=1e-2)
    assert int(re.sub(r"\D", "", star.text("#region-pixels"))) == part.size


def test_the_path_of_the_beam_follows_the_frames(star, view):
    star.find("#mosaic").send_keys("b")
    star.until(lambda: len(star.ask(f"{PAGE}.marks.path") or []) == 60)
    view.stitch(5)
    star.until(lambda: len(star.ask(f"{PAGE}.marks.path")) == 65)
    newest = view.recent("star").path_m()[-1] / view.pixel_m
    assert star.ask(f"{PAGE}.marks.path").pop() == pytest.approx(newest, abs=0.06)


def test_the_newest_diffraction_pattern_is_shown_and_any_other_by_a_click(star, view):
    star.find("#mosaic").send_keys("f")
    star.until(lambda: star.text("#pattern-title") == "Frame 59")
    assert star.text("#pattern-masked") == "36 masked"
    view.stitch(3)
    star.until(lambda: star.text("#pattern-title") == "Frame 62")
    y, x = (view.recent("star").numbered(30).position_m / np.float64(view.pixel_m)).tolist()
    y0, x0, _, _ = view.mosaic("star").bounds()
    drag(star, (y - y0, x - x0), (y - y0, x - x0))
    star.until(lambda: star.text("#pattern-title") not in ("Frame 62", "Frame 59"))
    chosen = int(star.text("#pattern-title").split()[1])
    away_m = np.subtract(
        view.recent("star").numbered(chosen).position_m, [y * view.pixel_m, x * view.pixel_m]
    )
    assert np.hypot(*away_m) < 2 * view.pixel_m
    star.keep("pattern")
    star.find("#pattern-newest").click()
    star.until(lambda: star.text("#pattern-title") == "Frame 62")


def test_a_browser_without_webgl2_is_told_so_and_still_shows_the_numbers(page, server, view):
    page_script = """
        const old = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
          return kind === "webgl2" ? null : old.call(this, kind, ...more);
        };"""
    script = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": page_script})
    try:
        page.open(server.url)
        page.until_stitched(60)
        assert "WebGL2" in page.text("#no-picture")
        assert "stitched 60" in page.text("#ledger")
        assert page.ask(f"{PAGE}.pixelAt(60, 100).amplitude") > 0
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_picture_comes_back_when_the_graphics_driver_was_reset(star):
    star.until(lambda: brightness(star) > 25)
    before = brightness(star)
    driver = "document.getElementById('mosaic').getContext('webgl2').getExtension('WEBGL_lose_context')"
    star.browser.execute_script(f"window.driver = {driver}; window.driver.loseContext()")
    star.until(lambda: brightness(star) < before - 5)
    star.browser.execute_script("window.driver.restoreContext()")
    star.until(lambda: brightness(star) > before - 2)
