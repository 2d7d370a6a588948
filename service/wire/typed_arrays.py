"""CBOR's typed arrays (RFC 8746) of two dimensions, plain or compressed as DECTRIS does (tag 56500).

An array is tag 40 `[[y, x], typed]`. `typed` is a tag that tells the element type and holds a byte string or,
in its place, tag 56500 `[algorithm, element size, bytes]`. Both algorithms use the HDF5 filters' framing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from service.errors import PixelError
from service.wire.fields import items, short
from service.wire.packed import PackedFrame
from service.wire.pixels import encode_pixels

_MULTI_DIM: Final = 40
_COMPRESSED: Final = 56500
_TYPED: Final = {64: "u1", 68: "u1", 65: ">u2", 66: ">u4", 69: "<u2", 70: "<u4"}
_TAG_OF: Final = {1: 64, 2: 69, 4: 70}
_ENCODING_OF: Final = {"bslz4": "bslz4", "lz4": "hdf5-lz4"}


def read_array(node: object) -> PackedFrame:
    """Take apart a decoded CBOR item: a (H, W) array of unsigned integers.

    Raises:
        PixelError: it is no such array, or what it says of itself disagrees.
    """
    shape, typed = _fields(node, _MULTI_DIM, 2)
    if not isinstance(typed, cbor2.CBORTag) or typed.tag not in _TYPED:
        raise PixelError("the array's elements are not of a known unsigned type")
    dtype = np.dtype(_TYPED[typed.tag])
    sides = items(shape)
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise PixelError(f"array shape {short(shape)} is not [y, x]")
    encoding, blob = _content(typed.value, dtype.itemsize)
    return PackedFrame((sides[0], sides[1]), dtype, encoding, blob)


def write_array(array: NDArray[Any], encoding: str) -> cbor2.CBORTag:
    """Return the CBOR item of an (H, W) array of unsigned integers.

    Args:
        array: what to send.
        encoding: "raw", "lz4" or "bslz4", as the device names them.

    Raises:
        ConfigError: the encoding is unknown.
    """
    content: object = encode_pixels(array, _ENCODING_OF.get(encoding, encoding))
    if encoding in _ENCODING_OF:
        element_bytes = array.itemsize if encoding == "bslz4" else 0  # lz4 does not use it
        content = cbor2.CBORTag(_COMPRESSED, [encoding, element_bytes, content])
    return cbor2.CBORTag(_MULTI_DIM, [list(array.shape), cbor2.CBORTag(_TAG_OF[array.itemsize], content)])


def _content(value: object, itemsize: int) -> tuple[str, bytes]:
    if isinstance(value, bytes):
        return "raw", value
    algorithm, element_bytes, blob = _fields(value, _COMPRESSED, 3)
    if not isinstance(algorithm, str) or algorithm not in _ENCODING_OF:
        raise PixelError(f"compression {short(algorithm)} is not lz4 or bslz4")
    if algorithm == "bslz4" and element_bytes != itemsize:  # a wrong size unpacks to garbage without an error
        raise PixelError(f"compressed as {short(element_bytes)}-byte elements, typed as {itemsize}-byte ones")
    if not isinstance(blob, bytes):
        raise PixelError("the compressed array holds no byte string")
    return _ENCODING_OF[algorithm], blob


def _fields(node: object, tag: int, count: int) -> Sequence[Any]:
    value = items(node.value) if isinstance(node, cbor2.CBORTag) and node.tag == tag else ()
    if len(value) != count:
        raise PixelError(f"not a tag {tag} of {count} items: is this a typed array of Stream V2?")
    return value
