"""What the process has freed goes back to the machine."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Let the C library return the pages that hold nothing any more; nothing happens where it cannot.

    glibc returns only the end of an arena by itself. The blocks of a mosaic that is forgotten lie below what
    younger scans hold, so the service would grow for twice the scans that it keeps (docs/results.md).
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
        if trim is not None:
            trim(0)
