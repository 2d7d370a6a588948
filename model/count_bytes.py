"""Counts as the bytes that they are: TensorRT takes no unsigned integers of 16 or 32 bits. No torch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_bytes(counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Return counts (n, 1, H, W) as (n, 1, H, W, itemsize) bytes, the least first.

    Nothing is copied where the counts lie in one piece.
    """
    whole = np.ascontiguousarray(counts)
    if sys.byteorder == "big" and whole.dtype.itemsize > 1:
        whole = whole.byteswap()
    return whole[..., None].view(np.uint8)
