"""The native stream: a msgpack map, then the payload.

The map's schema is the four structs below, and `Told`; a map that does not fit is refused whole. Keys that
are not in the schema are skipped, so that a newer sender still gets through.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from service.errors import MessageError, PixelError
from service.messages import (
    Blob,
    Counts,
    Event,
    Float64,
    Image,
    PackedPixels,
    Positions,
    Rejected,
    ScanEnd,
    ScanStart,
)
from service.wire.fields import Parts, decode_positions, encode_positions_m
from service.wire.pixels import DEFAULT_LIMITS, Limits, checked_shape, decode_pixels, encode_pixels
from service.wire.told import ScanName, Told, Whole, facts

Count = Annotated[int, msgspec.Meta(ge=1)]
NativeEncoding = Literal["raw", "lz4", "bslz4"]
WireDtype = Literal["<u1", "<u2", "<u4", "<f4"]


class Start(Told, tag_field="type", tag="start", frozen=True, kw_only=True):
    """A scan begins; the payload holds all positions, or there is none."""

    v: Literal[1] = 1
    scan: ScanName
    frame_shape: tuple[Count, Count]
    dtype: WireDtype


class Frames(msgspec.Struct, tag_field="type", tag="frames", frozen=True, kw_only=True):
    """Consecutive frames; the payload holds their pixels. `lz4` is one bare LZ4 block."""

    scan: ScanName
    first: Whole
    count: Count
    encoding: NativeEncoding
    positions_m: bytes | None = None


class FramePositions(msgspec.Struct, tag_field="type", tag="positions", frozen=True, kw_only=True):
    """Positions of consecutive frames; the payload holds them."""

    scan: ScanName
    first: Whole
    count: Count


class End(msgspec.Struct, tag_field="type", tag="end", frozen=True, kw_only=True):
    """A scan is over."""

    scan: ScanName
    frames: Whole | None = None


Head = Start | Frames | FramePositions | End
_HEADS: Final = msgspec.msgpack.Decoder(Head)


class _Geometry(NamedTuple):
    """What the frames of a scan are read with; the rest of its start, above all its positions, is let go."""

    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]


class NativeDecoder:
    """Bytes in, events out; remembers the geometry of the scans that it saw start."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._geometries: OrderedDict[str, _Geometry] = OrderedDict()

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message, in the order to handle them.

        Args:
            parts: the ZMQ parts as they came.
            received_ns: wall clock when they came, ns since the epoch.

        Raises:
            MessageError: the message does not follow the format; none of it can be attributed.
        """
        head, payload = _decode_head(parts, self._limits)
        match head:
            case Start():
                return [self._start(head, payload)]
            case Frames():
                return self._frames(head, payload, received_ns)
            case FramePositions():
                self._check_range(head.first, head.count)
                return [Positions(head.scan, head.first, decode_positions(payload, head.count))]
            case End():
                return [ScanEnd(head.scan, head.frames)]

    def _start(self, head: Start, payload: Blob) -> ScanStart:
        if head.frames is not None:
            self._check_range(0, head.frames)
        start = _scan_start(head, payload, self._limits)
        self._geometries[head.scan] = _Geometry(start.frame_shape, start.dtype)
        self._geometries.move_to_end(head.scan)
        if len(self._geometries) > self._limits.max_known_scans:
            self._geometries.popitem(last=False)
        return start

    def _frames(self, head: Frames, payload: Blob, received_ns: int) -> list[Event]:
        self._check_range(head.first, head.count)
        if head.count > self._limits.max_frames_per_message:
            raise MessageError(
                f"{head.count} frames in one message of scan {head.scan}: send fewer at a time"
            )
        geometry = self._geometries.get(head.scan)
        if geometry is None:
            return _reject(head, "no_header", "its start message never came: was the sender up first?")
        try:
            return _frame_events(head, payload, geometry, received_ns, self._limits)
        except (PixelError, MessageError) as error:
            return _reject(head, "undecodable", str(error))

    def _check_range(self, first: int, count: int) -> None:
        if first + count > self._limits.max_scan_frames:
            raise MessageError(
                f"frames {first} to {first + count - 1} are above the limit "
                f"of {self._limits.max_scan_frames}: does the sender count from 0?"
            )


def encode_start(start: ScanStart) -> list[bytes]:
    """Return the parts of a start message; planned positions become its payload."""
    head = Start(
        scan=start.scan,
        frame_shape=start.frame_shape,
        dtype=_wire_dtype(start.dtype),
        **facts(start),
    )
    return _encode(head, None if start.positions_m is None else encode_positions_m(start.positions_m))


def encode_frames(
    scan: str, first: int, counts: Counts, encoding: NativeEncoding, positions_m: Float64 | None = None
) -> list[bytes]:
    """Return the parts of a frames message.

    Args:
        scan: the scan's name.
        first: frame number of `counts[0]`.
        counts: (n, H, W) pixels.
        encoding: how to send the pixels.
        positions_m: (n, 2) y, x in metres, or None where they come otherwise.

    Raises:
        ConfigError: the encoding needs a package that is not installed.
    """
    told = None if positions_m is None else encode_positions_m(positions_m)
    head = Frames(scan=scan, first=first, count=len(counts), encoding=encoding, positions_m=told)
    return _encode(head, encode_pixels(counts, encoding))


def encode_positions(positions: Positions) -> list[bytes]:
    """Return the parts of a positions message."""
    head = FramePositions(scan=positions.scan, first=positions.first, count=len(positions.positions_m))
    return _encode(head, encode_positions_m(positions.positions_m))


def encode_end(end: ScanEnd) -> list[bytes]:
    """Return the parts of an end message."""
    return _encode(End(scan=end.scan, frames=end.frames))


def _encode(head: Head, payload: bytes | None = None) -> list[bytes]:
    parts = [msgspec.msgpack.encode(head)]
    return parts if payload is None else [*parts, payload]


def _wire_dtype(dtype: np.dtype[np.generic]) -> WireDtype:
    wire: WireDtype = msgspec.convert(f"<{dtype.kind}{dtype.itemsize}", WireDtype)
    return wire


def _decode_head(parts: Parts, limits: Limits) -> tuple[Head, Blob]:
    if not 1 <= len(parts) <= 2:
        raise MessageError(f"a native message has one or two parts, this one {len(parts)}")
    if len(parts[0]) > limits.max_head_bytes:
        raise MessageError(f"a map of {len(parts[0])} bytes: does the first part hold the msgpack map?")
    try:
        head: Head = _HEADS.decode(parts[0])
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not a native message: {error}") from error
    return head, parts[1] if len(parts) == 2 else b""


def _scan_start(head: Start, payload: Blob, limits: Limits) -> ScanStart:
    try:
        frame_shape = checked_shape(head.frame_shape, limits)
    except PixelError as error:
        raise MessageError(f"start of scan {head.scan}: {error}") from error
    return ScanStart(
        scan=head.scan,
        frame_shape=frame_shape,
        dtype=np.dtype(head.dtype),
        **facts(head),
        positions_m=decode_positions(payload, head.frames) if len(payload) else None,
    )


def _frame_events(
    head: Frames, payload: Blob, geometry: _Geometry, received_ns: int, limits: Limits
) -> list[Event]:
    shape, dtype = geometry
    stack = decode_pixels(payload, shape, dtype, head.encoding, count=head.count, limits=limits)
    alone = head.count == 1  # else the frames are packed as one
    packed = PackedPixels(shape, dtype, head.encoding, payload) if alone else None
    images: list[Event] = [
        Image(head.scan, index, counts, received_ns, packed) for index, counts in enumerate(stack, head.first)
    ]
    if head.positions_m is None:
        return images
    return [Positions(head.scan, head.first, decode_positions(head.positions_m, head.count)), *images]


def _reject(head: Frames, reason: str, detail: str) -> list[Event]:
    return [
        Rejected(head.scan, index, reason, detail) for index in range(head.first, head.first + head.count)
    ]
