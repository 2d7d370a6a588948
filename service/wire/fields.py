"""Fields that several formats share: scan names, scan positions, and what to print of a peer's values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from service.errors import MessageError
from service.messages import Float64

Parts = Sequence[bytes | memoryview]

SCAN_NAME_PATTERN: Final = r"^[A-Za-z0-9._-]{1,128}\Z"
_SCAN_NAME: Final = re.compile(SCAN_NAME_PATTERN)
_BYTES_A_POSITION: Final = 16


def legal_scan_name(name: object) -> bool:
    """Tell whether `name` is text of 1-128 characters out of `[A-Za-z0-9._-]`."""
    return isinstance(name, str) and _SCAN_NAME.match(name) is not None


def decode_positions(blob: bytes | memoryview, count: int | None = None) -> Float64:
    """Return (count, 2) float64 positions y, x in metres.

    Args:
        blob: little-endian float64 pairs.
        count: how many there must be; None takes what the length says.

    Raises:
        MessageError: the length is not that of `count` pairs, or a number is not finite.
    """
    size = memoryview(blob).nbytes
    expected = size - size % _BYTES_A_POSITION if count is None else count * _BYTES_A_POSITION
    if size != expected:
        told = "a multiple of 16" if count is None else f"{expected} for {count} frames"
        raise MessageError(f"positions take {size} bytes, not {told}: are they float64 pairs y, x in metres?")
    pairs = np.frombuffer(blob, dtype="<f8").reshape(-1, 2)
    if not np.isfinite(pairs).all():
        raise MessageError("positions are not finite: does the encoder deliver every axis?")
    return pairs


def encode_positions_m(positions_m: Float64) -> bytes:
    """Return (n, 2) positions y, x in metres as little-endian float64 pairs."""
    return np.ascontiguousarray(positions_m, dtype="<f8").tobytes()


def items(value: object) -> Sequence[Any]:
    """Return an array's items; none where the value is no array. CBOR decoders give lists or tuples."""
    return value if isinstance(value, list | tuple) else ()


def short(value: object) -> str:
    """Return a few words for any value out of a message, however large it is."""
    match value:
        case str():
            return repr(value[:48])
        case list() | tuple():
            return "[" + ", ".join(short(item) for item in value[:3]) + "]"
        case float() | None:
            return repr(value)
        case int() if value.bit_length() <= 64:
            return repr(value)
        case _:
            return f"a {type(value).__name__}"
