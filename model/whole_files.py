"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """Yield a hidden name beside `path`; what is written there takes its name when the block ends well.

    Otherwise what was at `path` before stays, and nothing is left beside it.

    Args:
        path: of the file; its folder exists.
        synced: whether the content is on the disk before it takes the name, and so outlives a power cut.

    Raises:
        OSError: it cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield half
        if synced:
            _sync(half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
