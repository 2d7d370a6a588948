"""Files that something has happened to."""

from __future__ import annotations

from pathlib import Path


def turn_a_bit(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
