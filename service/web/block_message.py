"""One block of the mosaic as the service sends it to its viewers.

All numbers are little-endian:

offset  type   field
0       4s     magic, b"PTLB"
4       u16    version of this layout, 3
6       u16    block_px, the side of a block in pixels of its level
8       u32    generation of the mosaic: another number is another mosaic
12      i32    by, the block's row; it holds rows by·block_px … (by + 1)·block_px − 1 of its level
16      i32    bx, the block's column
20      u32    level: a pixel stands for 2^level × 2^level pixels of the mosaic (`service.web.levels`)
24      f2     amplitude, phase (rad), agreement, coverage, confidence: block_px² numbers each, row-major
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import MessageError
from service.planes import Planes
from service.web.levels import LevelKey

CHANNELS = ("amplitude", "phase", "agreement", "coverage", "confidence")

_HEADER = struct.Struct("<4sHHIiiI")
_MAGIC = b"PTLB"
_LAYOUT = 3
_FLOAT16_MAX = 65504.0


@dataclass(frozen=True, slots=True, eq=False)
class SentBlock:
    """One block as it came.

    Attributes:
        generation: number of the mosaic.
        key: level, block row, block column.
        pixels: (5, block_px, block_px) float16, in the order of `CHANNELS`.
    """

    generation: int
    key: LevelKey
    pixels: NDArray[np.float16]


def pack_block(generation: int, key: LevelKey, block: Planes) -> bytes:
    """Return the message of a block."""
    level, by, bx = key
    planes: NDArray[np.float32] = np.stack([getattr(block, channel) for channel in CHANNELS])
    pixels = np.clip(planes, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2")
    header: bytes = _HEADER.pack(_MAGIC, _LAYOUT, pixels.shape[-1], generation, by, bx, level)
    return header + pixels.tobytes()


def unpack_block(message: bytes) -> SentBlock:
    """Return what a message holds; the pixels are a view of it.

    Raises:
        MessageError: it is no block, or one of another layout.
    """
    if len(message) < _HEADER.size:
        raise MessageError(f"{len(message)} bytes are no block of a mosaic")
    magic, layout, px, generation, by, bx, level = _HEADER.unpack_from(message)
    if (magic, layout, len(message)) != (_MAGIC, _LAYOUT, _HEADER.size + 2 * len(CHANNELS) * px**2):
        raise MessageError("this is no block of a mosaic: are client and service of one version?")
    pixels = np.frombuffer(message, "<f2", offset=_HEADER.size).reshape(len(CHANNELS), px, px)
    return SentBlock(generation, (level, by, bx), pixels)
