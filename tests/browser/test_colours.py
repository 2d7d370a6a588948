"""Colours and lengths of the live page: the phase on its circle, the histogram, the scale bar."""

from __future__ import annotations

import numpy as np
import pytest

from service.colours import COLOUR_MAPS

pytestmark = pytest.mark.browser

PAGE = "window.ptycholive"
UNIT_M = {"nm": 1e-9, "µm": 1e-6}
BARS = """
    const canvas = document.getElementById("histogram");
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...Array(width).keys()].map((x) => {
      let filled = 0;
      for (let y = 0; y < height; y++) filled += data[4 * (y * width + x) + 3] > 127;
      return filled / height;
    });"""


@pytest.fixture
def star(page, server, view):
    """The page, with the first rows of the star on it and the whole circle in its colours."""
    page.open(f"{server.url}/#channel=phase")
    page.until_stitched(60)
    page.until(lambda: page.ask(f"{PAGE}.blocks") == len(view.mosaic("star").changed_since(0)))
    return page


@pytest.mark.parametrize("centre_rad", [0.0, 1.2, 3.1])
def test_the_whole_circle_is_coloured_around_any_angle_without_a_seam(star, view, centre_rad):
    if star.find("#circle").get_dom_attribute("aria-pressed") != "true":
        star.find("#circle").click()
    star.type_into("#centre", centre_rad)
    star.until(lambda: star.ask(f"{PAGE}.state.contrast.centre") == centre_rad)
    mosaic, table = view.mosaic("star"), COLOUR_MAPS["phase"].astype(float)
    phase, coverage = mosaic.image("phase"), mosaic.image("coverage")
    bright = np.argwhere(coverage > np.median(coverage[coverage > 0]))
    for row, column in bright[:: len(bright) // 12].tolist():
        place = (phase[row, column] - centre_rad + np.pi) / (2 * np.pi) % 1
        entry = int(len(table) * place)
        near = table[np.arange(entry - 3, entry + 4) % len(table)]  # float16, and the seam is none
        star.until(lambda at=(row, column), near=near: np.abs(near - star.colour_at(*at)).max(1).min() < 6)


def test_half_a_circle_or_less_runs_from_dark_to_bright(star, view):
    star.type_into("#centre", 0)
    star.type_into("#low", -0.5)
    star.type_into("#high", 0.5)
    star.until(lambda: star.ask(f"{PAGE}.state.contrast.high") == 0.5)
    strip = """
        const strip = document.getElementById("colourbar-strip");
        const { data } = strip.getContext("2d").getImageData(0, 0, 1, strip.height);
        return [...Array(strip.height).keys()].map((y) => data[4 * y] + data[4 * y + 1] + data[4 * y + 2]);"""
    upwards = np.array(star.browser.execute_script(strip), float)[::-1]
    assert upwards[-1] > upwards[0] + 100
    assert (np.diff(upwards) >= -6).all()


def test_the_histogram_counts_the_pixels_of_the_mosaic(star, view):
    star.find("[data-channel=amplitude]").click()
    star.until(lambda: star.find("#gamma").is_displayed())
    limits = star.ask(f"{PAGE}.state.contrast.limits")
    mosaic = view.mosaic("star")
    covered = mosaic.image("amplitude")[mosaic.image("coverage") > 1e-4]
    bars = np.array(star.browser.execute_script(BARS)).reshape(96, 2).mean(axis=1)
    counts, _ = np.histogram(covered, bars.size, (limits["low"], limits["high"]))
    np.testing.assert_allclose(bars, np.sqrt(counts / counts.max()), atol=0.2)
    assert np.corrcoef(bars, np.sqrt(counts))[0, 1] > 0.98


def test_the_scale_bar_is_as_long_as_it_says_at_every_zoom(star, view):
    read = """[
        document.querySelector("#scalebar span").textContent,
        document.querySelector("#scalebar i").getBoundingClientRect().width
            / window.ptycholive.state.viewport.scale,
    ]"""

    def is_true() -> bool:
        label, pixels = star.ask(read)
        value, unit = label.split()
        labels.add(label)
        return pixels * view.pixel_m == pytest.approx(float(value) * UNIT_M[unit], rel=0.02)

    labels: set[str] = set()
    for _ in range(3):
        star.until(is_true)  # what the eye sees comes with the next frame of the screen
        for _ in range(4):
            star.find("#zoom-in").click()
    star.until(is_true)
    assert len(labels) >= 3
