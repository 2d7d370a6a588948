"""What the documents tell people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^    \S.*\n(?:    .*\n)*", re.MULTILINE)


def blocks(document: Path) -> list[str]:
    """Return each indented block as one would type it, lines that end with a backslash joined to the next."""
    return [dedent(block.replace("\\\n", " ")) for block in _BLOCK.findall(document.read_text("utf-8"))]


def lines(document: Path) -> Iterator[str]:
    """Yield the lines of each block."""
    for block in blocks(document):
        yield from block.splitlines()
