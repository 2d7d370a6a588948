"""How tests wait: for what is to come, and not for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(
    condition: Callable[[], Found], what: str = "what was waited for", timeout_s: float = 30.0
) -> Found:
    """Wait until the condition holds, and return what it found."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.01)
    return found
