"""The mosaic from Python and in a terminal: numbers equal to the API's, and no old lie."""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from service.cli import cli
from service.client import Live, coloured
from service.errors import ConfigError
from service.terminal import fitted, half_blocks, watch_scan
from service.web.http import WebServer

StarView = runpy.run_path(str(Path(__file__).parent / "web/star_view.py"))["StarView"]
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def star():
    return StarView()


@pytest.fixture
def view(star):
    star.begin("star")
    star.stitch(60)
    return star


@pytest.fixture
def server(view):
    running = WebServer(view, port=0)
    running.start()
    yield running
    running.stop()


def until(live, condition):
    """Let updates come until something holds."""
    for _ in range(int(PATIENCE_S / 0.1)):
        if condition():
            return
        live.wait(0.1)
    raise AssertionError("it never came to pass")


def api(server, channel):
    query = {"channel": channel, "format": "npy"}
    return np.load(io.BytesIO(httpx.get(f"{server.url}/api/scans/star/mosaic", params=query).content))


def complete(live, view):
    wanted = len(view.mosaic("star").changed_since(0))
    until(live, lambda: len(live._blocks) == wanted)


def test_the_unwrapped_phase_is_the_api_s_without_jumps(server, view):
    view.begin("star")
    view.stitch(60, phase_turn_rad=3.0)
    with Live(server.url) as live:
        complete(live, view)
        unwrapped, told, phase = np.asarray(live.unwrapped), api(server, "unwrapped"), api(server, "phase")
        bright = api(server, "coverage") > 0.2
        assert (np.abs(told - phase)[bright] > 3).any()
        np.testing.assert_allclose(unwrapped[bright], told[bright], atol=4e-3)
        assert np.isnan(unwrapped[api(server, "coverage") == 0]).all()
        assert live.unwrapped._repr_png_() is not None


def test_the_arrays_are_those_of_the_api_and_grow_with_the_scan(server, view):
    with Live(server.url) as live:
        complete(live, view)
        coverage = api(server, "coverage")
        covered = coverage > 1e-4  # what rounds to no light in float16 is not shown
        for channel in ("amplitude", "phase", "confidence"):
            values = np.asarray(getattr(live, channel))
            np.testing.assert_allclose(values[covered], api(server, channel)[covered], rtol=1e-3, atol=1e-3)
            assert np.isnan(values[coverage == 0]).all()
        rows = live.shape[0]
        view.stitch(120)
        until(live, lambda: live.report["ledger"]["stitched"] == 180 and live.shape[0] > rows)
        assert live.phase.shape == live.phase[:].shape == api(server, "phase").shape
        assert live.pixel_m == view.pixel_m


def test_a_coarse_level_is_the_same_picture_with_fewer_pixels(server, view):
    with Live(server.url, level=2) as live:
        until(live, lambda: np.isfinite(live.amplitude[:]).any())
        until(
            live,
            lambda: np.nanmean(live.amplitude[:]) == pytest.approx(np.abs(view.object).mean(), rel=0.2),
        )
        assert live.shape == tuple(-(-size // 4) for size in api(server, "amplitude").shape)
        assert live.pixel_m == 4 * view.pixel_m


def test_a_notebook_shows_a_picture(server, view):
    with Live(server.url) as live:
        complete(live, view)
        picture = Image.open(io.BytesIO(live.phase._repr_png_()))
        assert picture.size == live.shape[::-1]
        np.testing.assert_array_equal(np.asarray(picture)[..., 3] > 0, np.isfinite(live.phase[:]))
        assert repr(live.phase).startswith("<phase of star, ")


def test_the_token_is_asked_for_and_a_service_that_is_not_there_is_told(view):
    guarded = WebServer(view, port=0, token="secret")
    guarded.start()
    try:
        with pytest.raises(ConfigError, match="the token right"):
            Live(guarded.url)
        with Live(guarded.url, token="secret") as live:
            assert live.scan == "star"
    finally:
        guarded.stop()
    with pytest.raises(ConfigError, match="no service answers"):
        Live(guarded.url)
    with pytest.raises(ConfigError, match="is no address"):
        Live("beamline:8080")


def test_a_client_finds_a_service_that_was_started_again(server, view):
    with Live(server.url) as live:
        complete(live, view)
        server.stop()
        until(live, lambda: live.trouble is not None)
        view.stitch(60)
        again = WebServer(view, port=server.port)
        again.start()
        try:
            until(live, lambda: live.report["ledger"]["stitched"] == 120)
            complete(live, view)
            assert live.trouble is None
        finally:
            again.stop()


def test_the_terminal_draws_the_scan_and_ends_with_it(server, view):
    view.finish()
    told = io.StringIO()
    console = Console(file=told, width=60, height=24, force_terminal=True, color_system="truecolor")
    with Live(server.url, level=None) as live:
        complete(live, view)
        watch_scan(live, "phase", once=True, console=console)
    assert "▀" in told.getvalue()
    assert "star, finished, phase" in told.getvalue()
    assert "are in the mosaic" in told.getvalue()


def test_watch_prints_the_last_picture_where_the_output_is_no_terminal(server, view):
    view.finish()
    told = CliRunner().invoke(cli, ["watch", server.url, "--once", "--channel", "amplitude"])
    assert told.exit_code == 0
    assert "▀" in told.output
    assert "star, finished, amplitude" in told.output


def test_two_rows_of_pixels_are_one_line_of_characters():
    ramp = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    lines = half_blocks(coloured(fitted(ramp, 6, 8), "amplitude"))
    assert [line.plain for line in lines] == ["▀" * 8] * 3
    styles = {str(span.style) for line in lines for span in line.spans}
    assert len(styles) > 4
