"""Fields that several formats share: scan names, positions, lengths, and what to print of a peer's values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from service.errors import MessageError
from service.messages import Float64

Parts = Sequence[bytes | memoryview]
Message = Mapping[Any, Any]

METRES_AN_ANGSTROM: Final = 1e-10


SCAN_NAME_PATTERN: Final = r"^[A-Za-z0-9._-]{1,128}\Z"
_SCAN_NAME: Final = re.compile(SCAN_NAME_PATTERN)
_BYTES_A_POSITION: Final = 16


def legal_scan_name(name: object) -> bool:
    """Tell whether `name` is text of 1-128 characters out of `[A-Za-z0-9._-]`."""
    return isinstance(name, str) and _SCAN_NAME.match(name) is not None


def made_legal(text: str) -> str:
    """Return a legal scan name made of any text."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:128] or "scan"


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


def positive(message: Message, key: str) -> float | None:
    """Return a positive finite number, None where it is not told: devices send 0 for what nobody set."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        return None
    return float(value)


def scaled(value: float | None, factor: float) -> float | None:
    """Return a number in another unit, None where it is not told."""
    return None if value is None else value * factor


def distance_m(message: Message) -> float | None:
    """Return the sample-detector distance: told as such, or along the beam, the translation's third part."""
    parts = items(message.get("detector_translation"))
    told = {"z": abs(parts[2])} if len(parts) == 3 and isinstance(parts[2], int | float) else {}
    return positive(message, "detector_distance") or positive(told, "z")


def beam_px(message: Message) -> tuple[float, float] | None:
    """Return row and column of the direct beam as DECTRIS tells it; None where nobody has set it."""
    y, x = positive(message, "beam_center_y"), positive(message, "beam_center_x")
    return None if y is None or x is None else (y, x)


def items(value: object) -> Sequence[Any]:
    """Return an array's items; none where the value is no array. CBOR decoders give lists or tuples."""
    return value if isinstance(value, list | tuple) else ()


def short(value: object) -> str:
    """Return a few words for any value out of a message, however large it is."""
    match value:
        case str():
            return repr(value[:48])
        case list() | tuple() if not any(isinstance(item, list | tuple) for item in value[:3]):
            return "[" + ", ".join(short(item) for item in value[:3]) + "]"
        case float() | None:
            return repr(value)
        case int() if value.bit_length() <= 64:
            return repr(value)
        case _:
            return f"a {type(value).__name__}"
