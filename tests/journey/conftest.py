"""Services that end with the test, however it ends."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture(scope="session")
def processes() -> SimpleNamespace:
    """What `processes.py` defines."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("processes.py"))))


@pytest.fixture(scope="module")
def serve(
    processes: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Start services; they end with the file."""
    with processes.services(lambda: tmp_path_factory.mktemp("service")) as start:
        yield start


@pytest.fixture(scope="module")
def service(serve: Callable[..., Any]) -> Any:
    """One service for all tests of a file; the scans have names of their own."""
    return serve()
