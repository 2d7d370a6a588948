"""Services that end with the test, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def service(serve: Callable[..., Any]) -> Any:
    """One service for all tests of a file; the scans have names of their own."""
    return serve()
