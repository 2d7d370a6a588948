"""Frames as HDF5 chunks: the bytes that came, wherever HDF5 has a filter that reads them.

| as it came | stored as |
|---|---|
| bslz4 (12-byte head, bitshuffled LZ4 blocks) | the same bytes, filter 32008 |
| lz4 with the HDF5 filter's framing (Stream V2) | the same bytes, filter 32004 |
| lz4, one bare block (Stream V1, native) | the same block behind the head and length of filter 32004 |
| raw | the same bytes, without a filter |

The first frame of a file decides its filter; a chunk may go without it, so a frame that came otherwise is
stored unpacked. LZ4 keeps a block that does not shrink as it is and knows it by its length: a bare block that
is no shorter than its pixels would be taken for them, and is stored unpacked too.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.messages import Blob, Image, PackedPixels
from service.wire.pixels import decode_pixels

LZ4: Final = 32004
BITSHUFFLE: Final = 32008

_FILTERS: Final = {"raw": None, "lz4": LZ4, "hdf5-lz4": LZ4, "bslz4": BITSHUFFLE}
_ENCODINGS: Final = {None: "raw", LZ4: "hdf5-lz4", BITSHUFFLE: "bslz4"}
_BITSHUFFLED_LZ4: Final = 2
_BARE_HEAD: Final = struct.Struct(">QII")  # plain bytes, bytes a block, then the length of the only block
_WITH_FILTER: Final = 0
_WITHOUT_FILTER: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class PackedImage:
    """A frame on its way to the disk.

    Attributes:
        scan, index: which frame.
        pixels: as they came.
    """

    scan: str
    index: int
    pixels: PackedPixels


@dataclass(frozen=True, slots=True)
class Storage:
    """How a file keeps its frames.

    Attributes:
        shape: (H, W).
        dtype: type of a pixel, in the byte order sent.
        filter: number of the HDF5 filter that unpacks them, None where nothing has to.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    filter: int | None

    @classmethod
    def of(cls, first: PackedPixels) -> Storage:
        """Return what keeps a frame as it came."""
        return cls(first.shape, first.dtype, _FILTERS[first.encoding])

    @classmethod
    def found(cls, shape: tuple[int, int], dtype: np.dtype[Any], number: int | None) -> Storage:
        """Return what a file that is there keeps its frames with.

        Raises:
            ValueError: a filter that no recording has.
        """
        if number not in _ENCODINGS:
            raise ValueError(f"filter {number} is none of a recording")
        return cls(shape, dtype, number)

    def chunk(self, pixels: PackedPixels) -> tuple[Blob, int]:
        """Return the bytes of a frame's chunk, and the mask of the filters that it goes without.

        Raises:
            PixelError: the frame has to be unpacked, and its bytes are damaged.
        """
        if pixels.dtype == self.dtype and _FILTERS[pixels.encoding] == self.filter:
            kept = _framed(pixels) if pixels.encoding == "lz4" else pixels.blob
            if kept is not None:
                return kept, _WITH_FILTER
        plain = unpacked(pixels).astype(self.dtype).tobytes()
        return plain, _WITH_FILTER if self.filter is None else _WITHOUT_FILTER

    def packed(self, blob: bytes, without: int) -> PackedPixels:
        """Return the frame of a chunk, with the mask of the filters that it goes without."""
        encoding = "raw" if without else _ENCODINGS[self.filter]
        return PackedPixels(self.shape, self.dtype, encoding, blob)

    def cd_values(self, registered: bool) -> tuple[int, ...]:
        """Return the filter's parameters; a filter that is not registered cannot add its own to them."""
        if self.filter == LZ4:
            return (0,)
        own = (0, _BITSHUFFLED_LZ4)  # blocks of the usual size
        return own if registered else (0, 4, self.dtype.itemsize, *own)  # behind version and pixel's bytes


def unpacked(pixels: PackedPixels) -> NDArray[Any]:
    """Return a frame's (H, W) pixels; raises `PixelError` where its bytes are damaged."""
    frame: NDArray[Any] = decode_pixels(pixels.blob, pixels.shape, pixels.dtype, pixels.encoding)[0]
    return frame


def packed_image(image: Image) -> PackedImage:
    """Return a frame as it came; unpacked where its message packs several frames as one."""
    counts = image.counts
    pixels = image.packed or PackedPixels(
        (counts.shape[0], counts.shape[1]), counts.dtype, "raw", np.ascontiguousarray(counts).data
    )
    return PackedImage(image.scan, image.index, pixels)


def _framed(pixels: PackedPixels) -> bytes | None:
    """Return a bare LZ4 block as filter 32004 has it; None where its length would be misunderstood."""
    plain = math.prod(pixels.shape) * pixels.dtype.itemsize
    length = memoryview(pixels.blob).nbytes
    return _BARE_HEAD.pack(plain, plain, length) + bytes(pixels.blob) if length < plain else None
