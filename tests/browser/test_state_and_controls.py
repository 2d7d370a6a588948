"""State, controls, links and comparison on the live page, and whether everybody can use them."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from slow_link import SlowLink

pytestmark = pytest.mark.browser

LIVE = "window.ptycholive.state"
VIEWS = ("amplitude", "phase", "agreement", "coverage", "confidence", "complex", "unwrapped")
AXE = (Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def two(page, server, view):
    """The page of a scan that runs, with one in the list that is finished."""
    view.finish()
    view.begin("next")
    view.stitch(40)
    page.open(server.url)
    page.until_stitched(40)
    return page


def lamp(page, about: str) -> str:
    return page.ask(f"document.querySelector('#lamps [data-about={about}]')?.dataset.state")


def violations(page) -> list[str]:
    """What axe-core finds, a line each."""
    page.browser.execute_script(AXE)
    run = "axe.run(document, { iframes: false }).then(arguments[0], (error) => arguments[0](String(error)))"
    found = page.browser.execute_async_script(run)["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


def unreachable(page) -> list[str]:
    """Controls that have no name, or that the tab key does not come to."""
    found = []
    for element in page.browser.find_elements(
        By.CSS_SELECTOR, "button, a[href], input, select, canvas[tabindex]"
    ):
        stops = element.get_dom_attribute("role") == "radio" or element.get_dom_attribute("tabindex") in (
            None,
            "0",
        )
        if element.is_displayed() and not (stops and element.accessible_name):
            found.append(element.get_attribute("outerHTML"))
    return found


def middle_um(page) -> list[float]:
    """Middle of the stage in micrometres, and its zoom."""
    place = page.ask("window.ptycholive.shown.place")
    return [place["yUm"], place["xUm"], place["zoom"]]


def test_lamps_and_ledger_say_in_words_what_is_wrong(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    assert [lamp(page, about) for about in ("frames", "positions", "model", "viewer")] == ["calm"] * 4
    view.missing, view.trust = [[101, 103]], {"state": "exposure"}
    view.stitch(1)
    page.until(lambda: lamp(page, "frames") == "alarm")
    assert lamp(page, "model") == "alarm"
    assert "3 frames are missing so far: 101–103" in page.text("#lamp-lines")
    for plot, now in (("frames", "now 214"), ("p50", "now 12 ms"), ("p99", "now 38 ms")):
        label = f"document.getElementById('trend-{plot}').ariaLabel"
        page.until(lambda label=label, now=now: now in page.ask(label))


def test_saturated_frames_light_a_lamp_and_are_counted_on_their_pattern(page, server, view):
    page.open(server.url)
    page.until_stitched(60)
    page.until(lambda: lamp(page, "saturation") == "alarm")
    assert view.recent("star").saturated_frames == 60
    assert "60 of 60 frames hold pixels of 30000 counts or more" in page.text("#lamp-lines")
    page.find("#mosaic").send_keys("f")
    page.until(lambda: page.text("#pattern-title") == "Frame 59")
    newest = view.recent("star").numbered(59).counts
    assert page.text("#pattern-saturated") == f"{(newest == 30_000).sum()} saturated"


def test_a_viewer_behind_a_slow_network_is_told_so_until_it_has_caught_up(page, server, view):
    with SlowLink(server.url) as link:
        page.open(link.url)
        page.until_stitched(60)
        page.until(lambda: page.ask("window.ptycholive.blocks") == len(view.mosaic("star").changed_since(0)))
        assert lamp(page, "viewer") == "calm"
        link.bytes_per_s = 200_000
        view.stitch(300)
        page.until(lambda: lamp(page, "viewer") == "alarm")
        assert " s behind: its network or browser is slow" in page.text("#lamp-lines")
        link.bytes_per_s = None
        page.until(lambda: lamp(page, "viewer") == "calm")
        page.until_stitched(360)


@pytest.mark.long
def test_a_link_opens_just_this_view(two, server):
    canvas = two.find("#mosaic")
    canvas.send_keys("1", "+", "+", Keys.ARROW_LEFT)
    two.type_into("#low", 0.25)
    link = "document.getElementById('permalink').href"
    two.until(lambda: "contrast=0.25" in two.ask(link) and "at=" in two.ask(link))
    place, address = middle_um(two), two.ask(link)
    assert "scan=next" in address
    two.open("about:blank")
    two.open(address)
    two.until_stitched(40)
    assert middle_um(two) == pytest.approx(place, rel=1e-4)
    assert two.ask(f"{LIVE}.channel") == "amplitude"
    assert two.ask(f"{LIVE}.contrast.low") == 0.25


@pytest.mark.long
def test_two_scans_are_compared_with_one_pan_and_zoom(two):
    two.find(".scans .compare").click()
    pane = "document.getElementById('pane').contentWindow.ptycholive"
    two.until(lambda: two.ask(f"{pane}?.state?.name") == "star" and two.ask(f"{pane}.blocks"))
    two.find("#mosaic").send_keys("+", Keys.ARROW_UP, "1")
    two.until(
        lambda: two.ask(f"{pane}.shown.place") == pytest.approx(two.ask("window.ptycholive.shown.place"))
    )
    assert two.ask(f"{pane}.shown.view") == "amplitude"
    two.keep("compared")
    two.find("#mosaic").send_keys("x")
    assert two.find("body").get_dom_attribute("data-compare") == "over"
    two.find("#mosaic").send_keys("x")
    assert not two.find("#pane").is_displayed()
    two.find("#mosaic").send_keys(Keys.ESCAPE)
    assert two.find("body").get_dom_attribute("data-compare") is None


def test_the_controls_tell_the_service_what_to_do_and_show_its_answer(two, view):
    two.find("#mosaic").send_keys("o")
    two.until(lambda: two.find("#orders").is_displayed())
    two.until(lambda: two.find("#bundles").text.startswith("star-unet-0.3 (runs)"))
    two.find("#order-record").click()
    two.until(lambda: view.recording == {"on": True})
    two.until(lambda: two.find("#recording").is_displayed())
    two.find("#bundles option:last-child").click()
    two.find("#order-bundle").click()
    two.until(lambda: two.text("#order-answer") == "star-unet-0.4 runs from the next batch on")
    assert not two.find("#order-turn").is_enabled()
    two.find("#order-align").click()
    two.until(lambda: two.text("#align-facts") == "on from the next scan on; off in this one")
    assert view.aligns
    two.keep("controls")
    two.find("#order-abort").click()
    assert two.text("#order-abort") == "Press again to abort next"
    two.find("#order-abort").click()
    two.until(lambda: two.text("#scan-state") == "finished")
    two.find("#turn-frames option:nth-child(6)").click()
    two.until(lambda: two.find("#order-turn").is_enabled())
    two.find("#order-turn").click()
    two.until(lambda: view.orientation == {"frames": "rotate90", "positions": "y,x"})
    two.find("#order-turn").send_keys(Keys.ESCAPE)
    assert two.browser.switch_to.active_element.get_dom_attribute("id") == "orders-open"


def test_a_refusal_is_one_line_on_the_page(two, view):
    two.find("#orders-open").click()
    two.until(lambda: two.find("#bundles").text)
    view.activate("star-unet-0.4")
    two.find("#order-bundle").click()  # the other one is asked for, which this service has no more
    two.until(lambda: two.find("#order-answer").get_dom_attribute("data-refused") == "true")
    assert (
        two.text("#order-answer") == "bundle star-unet-0.3 is refused: model.onnx does not match its sha256"
    )


def test_controls_obey_who_came_with_the_token_and_nobody_else(page, view, guarded):
    page.open(f"{guarded.url}/?token=secret")
    page.until_stitched(60)
    page.find("#orders-open").click()
    page.find("#order-record").click()
    page.until(lambda: view.recording == {"on": True})
    page.until(lambda: page.text("#order-record") == "Stop recording")
    page.browser.delete_all_cookies()
    page.find("#order-record").click()
    page.until(lambda: page.find("#order-answer").get_dom_attribute("data-refused") == "true")
    assert "token" in page.text("#order-answer")
    assert view.recording == {"on": True}


def test_nothing_keeps_people_out_who_cannot_see_or_point(two, view):
    view.missing = [[101, 103]]
    view.warnings = ["images wait for their position: is the position stream armed?"]
    view.stitch(1)
    two.until(lambda: lamp(two, "frames") == "alarm")
    assert violations(two) == []
    assert unreachable(two) == []
    two.find("#mosaic").send_keys("o", "f", "p")
    two.until(lambda: two.find("#bundles").text)
    two.find(".scans .compare").click()
    two.until(lambda: two.find("#compare").is_displayed())
    assert violations(two) == []


@pytest.mark.long
@pytest.mark.parametrize("screen", [(1366, 768), (2560, 1440)])
def test_no_view_keeps_people_out(two, screen):
    canvas = two.find("#mosaic")
    line = ActionChains(two.browser).key_down(Keys.SHIFT).move_to_element(canvas).click_and_hold()
    line.move_by_offset(80, 40).release().key_up(Keys.SHIFT).perform()
    two.until(lambda: two.find("#profile").is_displayed())
    with two.window(*screen):
        for key, view in enumerate(VIEWS, start=1):
            canvas.send_keys(str(key))
            two.until(lambda view=view: two.ask(f"{LIVE}.channel") == view)
            assert violations(two) == []
            assert unreachable(two) == []


@pytest.mark.long  # on a machine that does nothing else
def test_the_first_paint_takes_less_than_a_second(page, server, view):
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    taken_ms = []
    for _ in range(3):  # the machine may be busy
        page.open("about:blank")
        page.open(server.url)
        taken_ms.append(page.until(lambda: page.ask(paint)))
    print(f"first paint: {min(taken_ms):.0f} ms")
    assert min(taken_ms) < 1000
