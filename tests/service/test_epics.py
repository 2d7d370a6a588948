"""The mosaic as a control room that lives in EPICS sees it: p4p's own client, on loopback."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("p4p", reason="the extra `epics` is not installed")
from p4p.client.thread import Context

from service.config import Settings
from service.epics import EpicsChannels, is_open_to_others, sampled
from service.errors import ConfigError

StarView = runpy.run_path(str(Path(__file__).parent / "web/star_view.py"))["StarView"]
FREE_PORTS = {
    "EPICS_PVAS_SERVER_PORT": "0",
    "EPICS_PVAS_BROADCAST_PORT": "0",
    "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO",
}
PATIENCE_S = 10.0


@pytest.fixture
def view():
    star = StarView()
    star.begin("star")
    star.stitch(60)
    return star


@pytest.fixture
def channels(view):
    running = EpicsChannels(view, "BL:PTYCHO", rate_hz=20.0, conf=FREE_PORTS)
    yield running
    running.stop()


def image(context, name, shape):
    """Wait until a channel holds an image of that shape."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := context.get(name, timeout=PATIENCE_S)).shape != shape:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return np.asarray(found)


def test_the_channels_hold_the_mosaic_and_grow_with_it(view, channels):
    with Context("pva", conf=channels.conf(), useenv=False) as context:
        for frames in (20, 120):
            view.stitch(frames)
            for name, channel in (("Phase", "phase"), ("Amplitude", "amplitude")):
                expected = view.mosaic("star").image(channel)
                np.testing.assert_array_equal(image(context, f"BL:PTYCHO:{name}", expected.shape), expected)


def test_of_a_huge_mosaic_every_kth_pixel_is_posted():
    huge = np.arange(5000 * 3, dtype=np.float32).reshape(5000, 3)
    np.testing.assert_array_equal(sampled(huge), huge[::3, ::3])
    assert sampled(huge[:2000]).shape == (2000, 3)


def test_an_interface_is_an_address():
    assert not is_open_to_others("127.0.0.1")
    assert is_open_to_others("0.0.0.0")
    with pytest.raises(ConfigError, match="epics_interface"):
        is_open_to_others("beamline")


def test_epics_is_off_unless_it_is_asked_for():
    assert Settings().epics is None
