"""A real Chromium before a real server over the measured star."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from service.web.http import WebServer

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --window-size=1366,768"
)
SCREEN = (1366, 768)
ROOT = Path(__file__).parents[2]
StarView = runpy.run_path(str(ROOT / "tests/service/web/star_view.py"))["StarView"]


class Page:
    """The live page as a person at the beamline uses it."""

    def __init__(self, browser: WebDriver) -> None:
        self.browser = browser

    def open(self, url: str) -> None:
        self.browser.get(url)

    def ask(self, expression: str) -> Any:
        return self.browser.execute_script(f"return {expression}")

    def find(self, css: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return self.find(css).text

    def until(self, condition: Callable[[], Any], timeout_s: float = 30) -> Any:
        return WebDriverWait(self.browser, timeout_s, poll_frequency=0.05).until(lambda _: condition())

    def until_stitched(self, frames: int) -> None:
        """Wait until the page tells this many frames and has drawn blocks."""
        self.until(lambda: self.text("#progress-frames").startswith(f"{frames} "))
        self.until(lambda: self.ask("window.ptycholive.blocks"))

    def colours(self) -> list[int]:
        """The stage's pixels, coarsely, as one list of RGBA bytes."""
        read = """
            const canvas = document.getElementById("mosaic");
            const small = Object.assign(document.createElement("canvas"), { width: 64, height: 40 });
            small.getContext("2d").drawImage(canvas, 0, 0, 64, 40);
            return [...small.getContext("2d").getImageData(0, 0, 64, 40).data];"""
        return self.browser.execute_script(read)

    def colour_at(self, row: int, column: int) -> list[int]:
        """RGB of the stage where a pixel of the mosaic lies."""
        read = """
            const [left, top] = window.ptycholive.stagePoint(arguments[0], arguments[1]);
            const canvas = document.getElementById("mosaic");
            const one = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
            one.getContext("2d").drawImage(canvas, Math.floor(left), Math.floor(top), 1, 1, 0, 0, 1, 1);
            return [...one.getContext("2d").getImageData(0, 0, 1, 1).data.slice(0, 3)];"""
        return self.browser.execute_script(read, row, column)

    def hover(self, row: int, column: int) -> None:
        """Point at a pixel of the mosaic."""
        canvas = self.find("#mosaic")
        left, top = self.ask(f"window.ptycholive.stagePoint({row}, {column})")
        aside = round(left - canvas.size["width"] / 2), round(top - canvas.size["height"] / 2)
        ActionChains(self.browser).move_to_element_with_offset(canvas, *aside).perform()

    def type_into(self, css: str, value: object) -> None:
        """Fill a field and leave it by Enter."""
        field = self.find(css)
        field.clear()
        field.send_keys(str(value), Keys.ENTER)

    def keep(self, name: str) -> None:
        """Save a screenshot for people to look at."""
        folder = ROOT / "artefacts"
        folder.mkdir(exist_ok=True)
        self.browser.save_screenshot(str(folder / f"{name}.png"))

    @contextmanager
    def window(self, width: int, height: int) -> Iterator[None]:
        """Show the page on another screen for a while."""
        set_screen(self.browser, width, height)
        self.until(lambda: self.ask("innerWidth") == width)
        self.ask("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        yield
        set_screen(self.browser, *SCREEN)


def set_screen(browser: WebDriver, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    set_screen(driver, *SCREEN)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: WebDriver) -> Iterator[Page]:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    yield Page(browser)
    browser.get("about:blank")


@pytest.fixture
def view() -> Any:
    star = StarView()
    star.begin("star")
    star.stitch(60)
    return star


@pytest.fixture
def server(view: Any) -> Iterator[WebServer]:
    running = WebServer(view, port=0)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def guarded(view: Any) -> Iterator[WebServer]:
    """A server that asks for the token "secret"."""
    running = WebServer(view, port=0, token="secret")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start services as processes of their own; they end with the file."""
    with processes.services(lambda: tmp_path_factory.mktemp("service")) as start:
        yield start
