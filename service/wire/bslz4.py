"""The blocks of the HDF5 filters LZ4 and bitshuffle-LZ4, in NumPy and LZ4 alone: no compiler is needed.

Both filters cut the pixels into blocks of one size, the last may be smaller, and put each behind its u32
big-endian compressed length. LZ4 keeps a block that does not shrink as it is. Bitshuffle first turns a block
of n pixels of s bytes into 8·s planes of n / 8 bytes, one plane a bit; n is a multiple of 8, so up to 7
pixels may be left over, which follow as they are. K. Masui et al., Astronomy and Computing 12, 181 (2015).

The 12-byte head in front of the blocks is read and checked in `pixels`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import lz4.block
import numpy as np
from numpy.typing import NDArray

from service.errors import PixelError

_LENGTH: Final = struct.Struct(">I")
_PIXELS_AT_ONCE: Final = 1 << 16  # so that their bits, a byte each, stay in the processor's cache


def decompress_lz4(blob: memoryview, expected: int, block_bytes: int) -> bytes:
    """Return the plain bytes of LZ4 blocks.

    Args:
        blob: the blocks, without the head.
        expected: plain bytes of all blocks together.
        block_bytes: plain bytes of a full block.

    Raises:
        PixelError: the bytes are damaged or cut short.
    """
    stored = _Stored(blob)
    sizes = (min(block_bytes, expected - at) for at in range(0, expected, block_bytes))
    return b"".join(_unpacked_unless_kept(stored.block(), size) for size in sizes)


def compress_lz4(plain: bytes, block_bytes: int) -> bytes:
    """Return the LZ4 blocks of some bytes: what `decompress_lz4` reads."""
    blocks = (plain[at : at + block_bytes] for at in range(0, len(plain), block_bytes))
    return b"".join(_with_length(_packed_unless_kept(block)) for block in blocks)


def decompress_bslz4(blob: memoryview, expected: int, itemsize: int, block_bytes: int) -> memoryview:
    """Return the plain pixels of bitshuffle-LZ4 blocks, little-endian, read-only.

    Args:
        blob: the blocks, without the head.
        expected: bytes of all pixels together.
        itemsize: bytes of a pixel: 1, 2 or 4.
        block_bytes: plain bytes of a full block, a multiple of 8 · itemsize.

    Raises:
        PixelError: the bytes are damaged or cut short.
    """
    stored = _Stored(blob)
    pixels = np.empty(expected // itemsize, f"<u{itemsize}")
    for run, elements in _runs(len(pixels), block_bytes // itemsize):
        blocks = (stored.block() for _ in range(run.start, run.stop, elements))
        planes = b"".join(_unpacked(block, elements * itemsize) for block in blocks)
        pixels[run] = _pixels(np.frombuffer(planes, np.uint8).reshape(-1, itemsize, 8, elements // 8))
    left = len(pixels) % 8
    pixels[len(pixels) - left :] = np.frombuffer(stored.take(left * itemsize), pixels.dtype)
    pixels.flags.writeable = False
    return pixels.data


def compress_bslz4(pixels: NDArray[Any], block_bytes: int) -> bytes:
    """Return the bitshuffle-LZ4 blocks of (n,) pixels, little-endian: what `decompress_bslz4` reads."""
    words = pixels.view(f"<u{pixels.itemsize}")
    stored = [
        _with_length(_packed(planes.tobytes()))
        for run, elements in _runs(len(words), block_bytes // words.itemsize)
        for planes in _planes(words[run].reshape(-1, elements))
    ]
    return b"".join(stored) + words[len(words) - len(words) % 8 :].tobytes()


class _Stored:
    """Blocks as they are stored, read from first to last, never beyond the end."""

    def __init__(self, blob: memoryview) -> None:
        self._rest = blob

    def block(self) -> memoryview:
        (length,) = _LENGTH.unpack(self.take(_LENGTH.size))
        return self.take(length)

    def take(self, nbytes: int) -> memoryview:
        if nbytes > len(self._rest):
            raise PixelError("damaged LZ4 blocks: cut short, or made with another block size?")
        taken, self._rest = self._rest[:nbytes], self._rest[nbytes:]
        return taken


def _with_length(block: bytes) -> bytes:
    return _LENGTH.pack(len(block)) + block


def _packed(plain: bytes) -> bytes:
    packed: bytes = lz4.block.compress(plain, store_size=False)
    return packed


def _packed_unless_kept(plain: bytes) -> bytes:
    packed = _packed(plain)
    return packed if len(packed) < len(plain) else plain


def _unpacked(packed: memoryview, size: int) -> bytes:
    try:
        plain: bytes = lz4.block.decompress(packed, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise PixelError("damaged LZ4 block: was it made with another element or block size?") from error
    if len(plain) != size:
        raise PixelError(f"LZ4 block of {len(plain)} bytes, {size} expected: wrong element or block size?")
    return plain


def _unpacked_unless_kept(stored: memoryview, size: int) -> bytes:
    return bytes(stored) if len(stored) == size else _unpacked(stored, size)


def _runs(elements: int, block: int) -> Iterator[tuple[slice, int]]:
    """Yield which pixels to work on at once, and how many make a block: full blocks, then a smaller one."""
    whole = elements - elements % 8
    full = whole - whole % block
    step = block * max(1, _PIXELS_AT_ONCE // block)
    for first in range(0, full, step):
        yield slice(first, min(first + step, full)), block
    if full < whole:
        yield slice(full, whole), whole - full


def _pixels(planes: NDArray[np.uint8]) -> NDArray[Any]:
    """Bit planes (blocks, itemsize, 8, n / 8) → pixels (blocks · n,)."""
    bits = np.unpackbits(planes, axis=-1, bitorder="little").view(np.uint64)  # 8 pixels at a time
    merged = bits[:, :, 0].copy()
    for bit in range(1, 8):
        merged |= bits[:, :, bit] << np.uint64(bit)
    octets = merged.view(np.uint8)
    words = octets[:, 0].astype(f"<u{octets.shape[1]}")
    for byte in range(1, octets.shape[1]):
        words |= octets[:, byte].astype(words.dtype) << (8 * byte)
    return words.reshape(-1)


def _planes(words: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels (blocks, n) → bit planes (blocks, itemsize, 8, n / 8)."""
    blocks, elements = words.shape
    planes = np.empty((blocks, words.itemsize, 8, elements // 8), np.uint8)
    for byte in range(words.itemsize):
        octets = (words >> (8 * byte)).astype(np.uint8)
        for bit in range(8):
            planes[:, byte, bit] = np.packbits(octets & (1 << bit), axis=-1, bitorder="little")
    return planes
