"""What the documents tell people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^    \S.*\n(?:    .*\n)*", re.MULTILINE)


def lines(document: Path) -> Iterator[str]:
    """Yield the lines of each indented block, those that end with a backslash joined to the next."""
    for block in _BLOCK.findall(document.read_text("utf-8")):
        yield from block.replace("\\\n", " ").splitlines()
