"""Pixel payloads: raw, LZ4 and bitshuffle-LZ4, in and out.

Four encodings are met on the wire. `raw` is row-major pixels. `lz4` is one bare LZ4 block (DECTRIS V1's
`lz4<`, the native stream). `hdf5-lz4` and `bslz4` carry the HDF5 filters' framing: a 12-byte head (u64
big-endian size in bytes, u32 big-endian block size in bytes), then blocks that each begin with their
u32 big-endian compressed length. Sizes are compared before memory is taken for them.

Framed payloads are unpacked by the package `dectris-compression` where it is installed (the extra `fast`),
else by `bslz4`, which needs no compiler. Both give the same pixels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

import lz4.block
import numpy as np
from numpy.typing import NDArray

from service.errors import ConfigError, PixelError
from service.messages import Blob
from service.wire.bslz4 import compress_bslz4, compress_lz4, decompress_bslz4, decompress_lz4
from service.wire.fields import short

Decompress = Callable[..., bytes]

PIXEL_DTYPES: Final = ("uint8", "uint16", "uint32", "float32")
ENCODINGS: Final = ("raw", "lz4", "hdf5-lz4", "bslz4")

_KINDS: Final = frozenset((np.dtype(name).kind, np.dtype(name).itemsize) for name in PIXEL_DTYPES)
_HEAD: Final = struct.Struct(">QI")
_BLOCK_BYTES: Final = 8192
_LARGEST_BLOCK_BYTES: Final = 1 << 20
_LZ4_GAIN: Final = 255  # one byte of an LZ4 match length stands for at most 255 bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may make us take memory for.

    Attributes:
        max_message_bytes: all parts of one message together; also its pixels once decompressed.
        max_head_bytes: the map in front of a native message, the JSON in front of pixels.
        max_configuration_bytes: a DECTRIS V1 configuration; ours tells planned positions, 22 bytes each.
        max_parts: parts of one message; a DECTRIS V1 header has nine.
        max_frame_pixels: H × W of one frame.
        max_frames_per_message: frames in one message.
        max_scan_frames: frame numbers lie below this.
        max_known_scans: scans whose geometry is remembered, the oldest is forgotten first.
        max_waiting_messages: messages the socket holds before it pushes back.
        max_waiting_bytes: what these may take; one may wait, however large it is.
        max_items: numbers, strings, arrays and maps of one CBOR message.
        max_depth: how deep they may be nested.
    """

    max_message_bytes: int = 1 << 28
    max_head_bytes: int = 1 << 20
    max_configuration_bytes: int = 1 << 22
    max_parts: int = 16
    max_frame_pixels: int = 1 << 25
    max_frames_per_message: int = 4096
    max_scan_frames: int = 1 << 24
    max_known_scans: int = 32
    max_waiting_messages: int = 1000
    max_waiting_bytes: int = 1 << 28
    max_items: int = 1 << 13
    max_depth: int = 32


DEFAULT_LIMITS: Final = Limits()


def checked_shape(shape: Sequence[int], limits: Limits) -> tuple[int, int]:
    """Return a frame's shape (H, W) as a tuple.

    Raises:
        PixelError: it is not two positive numbers, or their product is above the limit.
    """
    if len(shape) != 2 or not _is_side(shape[0]) or not _is_side(shape[1]):
        raise PixelError(f"frame shape {short(shape)} is not two positive numbers (H, W)")
    height, width = shape
    if height * width > limits.max_frame_pixels:
        raise PixelError(
            f"a frame of {short(shape)} pixels is above the limit of {limits.max_frame_pixels}: "
            "set a region of interest, or raise max_frame_pixels"
        )
    return height, width


def _is_side(side: object) -> bool:
    return type(side) is int and side > 0


def checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return `dtype` if frames may have it: 8, 16 or 32 bit unsigned, or float32.

    Raises:
        PixelError: any other type.
    """
    if (dtype.kind, dtype.itemsize) not in _KINDS:  # its name takes ten times as long
        raise PixelError(f"pixel type {dtype} is not one of {', '.join(PIXEL_DTYPES)}")
    return dtype


def decode_pixels(
    blob: Blob,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    encoding: str,
    *,
    count: int = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> NDArray[Any]:
    """Return (count, H, W) little-endian pixels, read-only; raw ones share memory with `blob`.

    Args:
        blob: the payload as it came.
        shape: (H, W) of each frame.
        dtype: one of `PIXEL_DTYPES`, in either byte order.
        encoding: one of `ENCODINGS`.
        count: frames in the payload.
        limits: what may be taken memory for.

    Raises:
        PixelError: shape, type, encoding or size is wrong, or the bytes are damaged.
    """
    frame_shape = checked_shape(shape, limits)
    if not 0 < count <= limits.max_frames_per_message:
        raise PixelError(f"{count} frames in one message are above the limits: send fewer at a time")
    return _decoded(blob, (count, *frame_shape), dtype, encoding, limits)


def decode_frame(
    blob: Blob, shape: tuple[int, int], dtype: np.dtype[Any], encoding: str, limits: Limits = DEFAULT_LIMITS
) -> NDArray[Any]:
    """Return the (H, W) pixels of a payload that holds one frame; else as `decode_pixels`.

    Raises:
        PixelError: shape, type, encoding or size is wrong, or the bytes are damaged.
    """
    return _decoded(blob, checked_shape(shape, limits), dtype, encoding, limits)


def _decoded(
    blob: Blob, shape: tuple[int, ...], dtype: np.dtype[Any], encoding: str, limits: Limits
) -> NDArray[Any]:
    """Return an array of a shape that is checked, and whose size is not."""
    expected = math.prod(shape) * checked_dtype(dtype).itemsize
    if expected > limits.max_message_bytes:
        raise PixelError(f"{expected} bytes of pixels are above the limits: send fewer frames a message")
    try:
        decoder = _DECODERS[encoding]
    except KeyError:
        raise PixelError(f"encoding {short(encoding)} is not one of {', '.join(ENCODINGS)}") from None
    plain = decoder(memoryview(blob), expected, dtype.itemsize)
    array: NDArray[Any] = np.ndarray(shape, dtype, plain)
    return array.astype(dtype.newbyteorder("<")) if dtype.byteorder == ">" else array


def encode_pixels(array: NDArray[Any], encoding: str) -> bytes:
    """Return the payload of `array` (…, H, W), little-endian: what `decode_pixels` reads.

    Raises:
        ConfigError: the encoding is unknown.
    """
    try:
        encoder = _ENCODERS[encoding]
    except KeyError:
        raise ConfigError(f"encoding {encoding!r} is not one of {', '.join(ENCODINGS)}") from None
    return encoder(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))


@cache
def compiled_decompress() -> Decompress | None:
    """Return what dectris-compression unpacks with, None where it is not installed."""
    try:
        from dectris.compression import decompress
    except ImportError:
        return None
    return cast(Decompress, decompress)


def decompressor() -> str:
    """Return the name of what unpacks the framed payloads, for the operator."""
    return "NumPy" if compiled_decompress() is None else "dectris-compression"


def _checked_size(size: int, expected: int) -> None:
    if size != expected:
        raise PixelError(
            f"payload holds {size} bytes of pixels, {expected} expected: "
            "do shape and dtype match the detector?"
        )


def _check_gain(packed: int, expected: int) -> None:
    if expected > _LZ4_GAIN * packed:
        raise PixelError(f"{packed} compressed bytes cannot hold {expected}: is the payload cut short?")


def _decode_raw(blob: memoryview, expected: int, _itemsize: int) -> memoryview:
    _checked_size(len(blob), expected)
    return blob


def _decode_lz4(blob: memoryview, expected: int, _itemsize: int) -> bytes:
    _check_gain(len(blob), expected)
    try:
        plain: bytes = lz4.block.decompress(blob, uncompressed_size=expected)
    except lz4.block.LZ4BlockError as error:
        raise PixelError("damaged LZ4 block: was it made with another shape, dtype or framing?") from error
    _checked_size(len(plain), expected)
    return plain


def _decode_hdf5_lz4(blob: memoryview, expected: int, itemsize: int) -> bytes:
    block = _checked_head(blob, expected)
    compiled = compiled_decompress()
    if compiled is None:
        return decompress_lz4(blob[_HEAD.size :], expected, block)
    return _decompress(compiled, blob, "lz4", itemsize, expected)


def _decode_bslz4(blob: memoryview, expected: int, itemsize: int) -> Blob:
    block = _checked_head(blob, expected)
    # A decompressor takes scratch memory of one block, whatever the head says.
    if block > _LARGEST_BLOCK_BYTES or block % (8 * itemsize):
        raise PixelError(
            f"bitshuffle block of {block} bytes does not fit {itemsize}-byte pixels: wrong element size?"
        )
    compiled = compiled_decompress()
    if compiled is None:
        return decompress_bslz4(blob[_HEAD.size :], expected, itemsize, block)
    return _decompress(compiled, blob, "bslz4", itemsize, expected)


def _checked_head(blob: memoryview, expected: int) -> int:
    """Return the block size in bytes that the 12-byte head tells, once the head is plausible."""
    if len(blob) < _HEAD.size:
        raise PixelError(f"payload of {len(blob)} bytes is shorter than its 12-byte head")
    size, block = _HEAD.unpack_from(blob)
    _checked_size(size, expected)
    _check_gain(len(blob), expected)
    if block == 0:
        raise PixelError("the payload's head tells a block size of 0")
    return int(block)


def _decompress(
    compiled: Decompress, blob: memoryview, algorithm: str, itemsize: int, expected: int
) -> bytes:
    try:
        plain = compiled(blob, algorithm, elem_size=itemsize)
    except (RuntimeError, ValueError) as error:
        raise PixelError(f"damaged {algorithm} payload: {error}") from error
    _checked_size(len(plain), expected)
    return plain


def _encode_lz4(array: NDArray[Any]) -> bytes:
    return bytes(lz4.block.compress(array.tobytes(), store_size=False))


def _encode_hdf5_lz4(array: NDArray[Any]) -> bytes:
    return _HEAD.pack(array.nbytes, _BLOCK_BYTES) + compress_lz4(array.tobytes(), _BLOCK_BYTES)


def _encode_bslz4(array: NDArray[Any]) -> bytes:
    return _HEAD.pack(array.nbytes, _BLOCK_BYTES) + compress_bslz4(array.reshape(-1), _BLOCK_BYTES)


_DECODERS: Final[dict[str, Callable[[memoryview, int, int], Blob]]] = {
    "raw": _decode_raw,
    "lz4": _decode_lz4,
    "hdf5-lz4": _decode_hdf5_lz4,
    "bslz4": _decode_bslz4,
}
_ENCODERS: Final[dict[str, Callable[[NDArray[Any]], bytes]]] = {
    "raw": lambda array: array.tobytes(),
    "lz4": _encode_lz4,
    "hdf5-lz4": _encode_hdf5_lz4,
    "bslz4": _encode_bslz4,
}
