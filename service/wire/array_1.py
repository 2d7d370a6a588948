"""array-1.0, and MAX IV's variant of it: one JSON head, then the pixels.

array-1.0 (PSI's mflow and std-daq, areaDetector) has images only. MAX IV's streams wrap them in a header and
an end: `htype` is `header`, `image` or `series_end`, each with a `msg_number`, and `compression` takes the
place of `encoding`. Both are read from one stream.

Neither numbers its series. So a scan begins with a header; without one, with an image while no scan runs,
or where the frame numbers begin anew: further back than messages that overtook each other could be, or at the
scan's first number after an end or a pause. `_Scan` decides that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final

import msgspec
import numpy as np

from service.errors import MessageError, PixelError
from service.messages import Counts, Event, ScanEnd, ScanStart
from service.wire.fields import Parts, items, made_legal, short
from service.wire.json_parts import Note, decode_json, decode_note, noted
from service.wire.packed import PackedFrame, packed_frame
from service.wire.pixels import DEFAULT_LIMITS, Limits, encode_pixels
from service.wire.series import UNTOLD_SHAPE, Series, SeriesBook, announced
from service.wire.told import Whole, facts

_OVERTAKEN: Final = 128  # frames: a number this much smaller may still be of the same scan
_PAUSE_NS: Final = 1_000_000_000
_UNTOLD_DTYPE: Final = np.dtype("<u4")


class Header(msgspec.Struct, tag_field="htype", tag="header", frozen=True):
    """MAX IV: a scan begins; a second part may tell more of it."""

    filename: str = ""


class SeriesEnd(msgspec.Struct, tag_field="htype", tag="series_end", frozen=True):
    """MAX IV: the scan is over."""


class _Pixels(msgspec.Struct, frozen=True):
    """What any image says of its pixels; `Any` where a wrong value shall cost only the frame."""

    frame: Whole
    shape: Any = None
    type: Any = None
    endianness: Any = "little"


class ArrayImage(_Pixels, tag_field="htype", tag="array-1.0", frozen=True):
    """array-1.0: an image."""

    encoding: Any = "none"


class MaxIvImage(_Pixels, tag_field="htype", tag="image", frozen=True):
    """MAX IV: an image."""

    compression: Any = "none"


Head = Header | SeriesEnd | ArrayImage | MaxIvImage
_HEADS: Final = msgspec.json.Decoder(Head)


@dataclass(slots=True)
class _Scan:
    """The scan that runs, and the frame numbers it has seen; `first` is None before its first image."""

    number: int
    name: str
    has_header: bool = False
    first: int | None = None
    highest: int = 0
    last_ns: int = 0
    ended: bool = False

    def is_over(self, index: int, received_ns: int) -> bool:
        """Tell whether a frame of this number must be of another scan."""
        if self.first is None:
            return False
        paused = self.ended or received_ns - self.last_ns >= _PAUSE_NS
        return index < self.highest - _OVERTAKEN or (paused and index <= self.first)

    def note(self, index: int, received_ns: int) -> None:
        """Take note of a frame of this scan."""
        self.first = index if self.first is None else self.first
        self.highest = max(self.highest, index)
        self.last_ns = received_ns


class Array1Decoder:
    """Bytes in, events out; names each scan after its file where a header tells one, else after its time."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._series: SeriesBook[Series] = SeriesBook(limits)
        self._scan: _Scan | None = None

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message.

        Args:
            parts: the ZMQ parts as they came: a head and, of an image, its pixels.
            received_ns: wall clock when they came, ns since the epoch.

        Raises:
            MessageError: the message does not follow the format; none of it can be attributed.
        """
        if not 1 <= len(parts) <= 2:
            raise MessageError(f"an array-1.0 message has one or two parts, this one {len(parts)}")
        head: Head = decode_json(parts[0], _HEADS, self._limits.max_head_bytes)
        match head:
            case Header():
                return self._header(head, parts[1:], received_ns)
            case SeriesEnd():
                return self._end()
            case ArrayImage() | MaxIvImage():
                return self._image(head, parts[1:], received_ns)

    def _header(self, head: Header, more: Parts, received_ns: int) -> list[Event]:
        named = made_legal(PurePath(head.filename).stem) if head.filename else None
        note = decode_note(more[0], self._limits.max_configuration_bytes) if more else Note()
        start = _scan_start(named or _timed(received_ns), note)
        scan = self._begin(start.scan, has_header=True)
        series, events = announced(start)
        self._series.remember(scan.number, series)
        return events

    def _end(self) -> list[Event]:
        if self._scan is None:
            return []
        self._scan.ended = True
        return [ScanEnd(self._scan.name)]

    def _image(self, head: ArrayImage | MaxIvImage, blobs: Parts, received_ns: int) -> list[Event]:
        if head.frame >= self._limits.max_scan_frames:
            raise MessageError(f"frame {head.frame} is above the limit of {self._limits.max_scan_frames}")
        ended, scan = self._scan_of(head.frame, received_ns)
        scan.note(head.frame, received_ns)
        series = self._series.get(scan.number) or Series(scan.name)
        events = self._series.image(
            scan.number, series, head.frame, lambda: _packed(head, blobs), received_ns
        )
        return ended + (events if scan.has_header else list(map(_endless, events)))

    def _scan_of(self, index: int, received_ns: int) -> tuple[list[Event], _Scan]:
        """Return the scan of a frame, and the end of the one before if this frame shows it to be over."""
        before = self._scan
        if before is not None and not before.is_over(index, received_ns):
            return [], before
        ended: list[Event] = [] if before is None or before.ended else [ScanEnd(before.name)]
        return ended, self._begin(_timed(received_ns))

    def _begin(self, name: str, *, has_header: bool = False) -> _Scan:
        self._scan = _Scan(0 if self._scan is None else self._scan.number + 1, name, has_header)
        return self._scan


def _endless(event: Event) -> Event:
    """Return an event of plain array-1.0, where no message ends a scan."""
    return replace(event, has_end=False) if isinstance(event, ScanStart) else event


def _timed(received_ns: int) -> str:
    """Return a scan's name made of the time of its first message, UTC."""
    return datetime.fromtimestamp(received_ns * 1e-9, UTC).strftime("array-%Y%m%dT%H%M%S.%f")


def _scan_start(name: str, note: Note) -> ScanStart:
    return ScanStart(
        scan=note.scan or name,
        frame_shape=UNTOLD_SHAPE,
        dtype=_UNTOLD_DTYPE,
        **facts(note),
        positions_m=note.positions(),
    )


def _packed(head: ArrayImage | MaxIvImage, blobs: Parts) -> PackedFrame:
    if not blobs:
        raise PixelError("the message holds no pixels")
    if head.endianness not in ("little", "big"):
        raise PixelError(f"endianness {short(head.endianness)} is not little or big")
    if not isinstance(head.type, str):
        raise PixelError(f"pixel type {short(head.type)} is not text")
    return packed_frame(_frame_shape(head.shape), head.type, _encoding(head), blobs[0])


def _encoding(head: ArrayImage | MaxIvImage) -> str:
    """Return how the pixels are packed in DECTRIS' words, the byte order at the end."""
    told = head.encoding if isinstance(head, ArrayImage) else head.compression
    if told is not None and not isinstance(told, str):
        raise PixelError(f"encoding {short(told)} is not text")
    words = "" if told in (None, "none", "raw") else told
    return words if words.endswith(("<", ">")) else words + (">" if head.endianness == "big" else "<")


def _frame_shape(told: object) -> tuple[int, int]:
    """Return (H, W) of […, y, x], where all that stands in front is 1."""
    sides = items(told)
    if len(sides) < 2 or sides[:-2].count(1) != len(sides) - 2:
        raise PixelError(f"shape {short(told)} is not [y, x] of one image")
    return sides[-2], sides[-1]  # whose types are checked with those of all formats


@dataclass(slots=True)
class Array1Encoder:
    """Makes the messages of one scan: array-1.0 images between MAX IV's header and end, numbered on.

    Attributes:
        start: the scan; the header's second part tells all of it but the frames' shape, type and mask.
    """

    start: ScanStart
    _messages: int = 0

    def header(self) -> list[bytes]:
        """Return the parts of a header; the scan's name stands for its file."""
        return [self._head("header", filename=self.start.scan), msgspec.json.encode(noted(self.start))]

    def image(self, index: int, counts: Counts, encoding: str) -> list[bytes]:
        """Return the parts of an image.

        Args:
            index: frame number, from 0.
            counts: (H, W) pixels.
            encoding: "raw", "lz4" or "bslz4".

        Raises:
            ConfigError: the encoding is unknown.
        """
        told = {
            "frame": index,
            "shape": list(counts.shape),
            "type": counts.dtype.name,
            "encoding": "none" if encoding == "raw" else encoding,
            "endianness": "little",
        }
        return [self._head("array-1.0", **told), encode_pixels(counts, encoding)]

    def end(self) -> list[bytes]:
        """Return the part of an end."""
        return [self._head("series_end")]

    def _head(self, htype: str, **fields: object) -> bytes:
        number, self._messages = self._messages, self._messages + 1
        return msgspec.json.encode({"htype": htype, "msg_number": number, **fields})
