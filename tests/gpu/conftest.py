"""Tests that need an NVIDIA GPU; without one they are skipped, with the reason."""

from pathlib import Path

import pytest

from model.scans import open_scan
from service.engines.cuda import Gpu
from service.errors import EngineError

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Skip the tests of this folder where there is no GPU."""
    try:
        Gpu(0)
    except EngineError as error:
        skip = pytest.mark.skip(reason=f"no NVIDIA GPU: {error}")
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def star():
    """The first frames of the measured star, (64, 1, 128, 128)."""
    with open_scan(HERE.parents[1] / "service" / "data" / "siemens_star_aps.cxi") as scan:
        return scan.frames(slice(0, 64))[:, None]
