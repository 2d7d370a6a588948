"""DECTRIS Stream V1, part by part: what each holds, and how they are put together again.

A proxy may send the parts of a header or an image as messages of their own, or header and configuration as
two; others put all that waits to be sent into one message. So parts are gathered until their header or image
is whole, wherever the borders between messages lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from service.errors import MessageError, PixelError
from service.messages import Blob
from service.wire.fields import Parts
from service.wire.json_parts import decode_json
from service.wire.packed import PackedFrame, packed_frame
from service.wire.pixels import Limits
from service.wire.told import Whole

_SeriesNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Side = Annotated[int, msgspec.Meta(ge=1)]

_OPENING: Final = b"{"


class Header(msgspec.Struct, tag_field="htype", tag="dheader-1.0", frozen=True):
    """First part of a header: the detector is armed."""

    series: _SeriesNumber
    header_detail: Literal["all", "basic", "none"] = "basic"


class ImageHead(msgspec.Struct, tag_field="htype", tag="dimage-1.0", frozen=True):
    """First part of an image."""

    series: _SeriesNumber
    frame: Whole


class SeriesEnd(msgspec.Struct, tag_field="htype", tag="dseries_end-1.0", frozen=True):
    """The only part of an end."""

    series: _SeriesNumber


class ArrayHead(msgspec.Struct, frozen=True):
    """What stands in front of pixels: of an image, and of the tables in a header. `shape` is [x, y]."""

    htype: str
    shape: tuple[_Side, _Side]
    type: str
    encoding: str = "<"


Head = Header | ImageHead | SeriesEnd


def _needed(head: Head) -> int:
    """Return how many parts must follow a head."""
    if isinstance(head, ImageHead):
        return _PARTS_OF_AN_IMAGE
    return _NEEDED[head.header_detail] if isinstance(head, Header) else 0


class _Kind(msgspec.Struct, frozen=True):
    htype: str = ""


_HEAD_TYPES: Final = ("dheader-1.0", "dimage-1.0", "dseries_end-1.0")
_KINDS: Final = msgspec.json.Decoder(_Kind)
_HEADS: Final = msgspec.json.Decoder(Head)
_ARRAY_HEADS: Final = msgspec.json.Decoder(ArrayHead)
_NEEDED: Final = {"none": 0, "basic": 1, "all": 7}  # configuration; then three tables, each with its head
_PARTS_OF_AN_IMAGE: Final = 2
_APPENDED: Final = {Header: 1, ImageHead: 2, SeriesEnd: 0}  # parts that may follow those needed


class Gathered(msgspec.Struct, eq=False):
    """A head and the parts that follow it.

    Attributes:
        head: the first part.
        parts: those after it, as far as they came.
        needed: how many of them make it whole.
    """

    head: Head
    parts: list[Blob]
    needed: int


class Gatherer:
    """Takes pieces of messages, gives whole headers, images and ends."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Gathered | None = None  # never a whole one
        self._may_follow = 0  # parts that nobody needs, after a whole one

    def take(self, piece: Piece) -> tuple[Gathered | None, Gathered | None]:
        """Return what a piece shows to be cut short, if anything; and what is whole with it, if anything.

        Raises:
            MessageError: the piece begins nothing, and continues nothing that was begun.
        """
        before, self._open = self._open, None
        if piece.head is not None:
            return before, self._whole(Gathered(piece.head, list(piece.parts), _needed(piece.head)))
        if before is not None:
            before.parts.extend(piece.parts)
            return None, self._whole(before)
        self._let_follow(self._may_follow - len(piece.parts))
        return None, None

    def _whole(self, gathered: Gathered) -> Gathered | None:
        """Return it if nothing that is needed is missing; otherwise wait for the rest."""
        lacking = gathered.needed - len(gathered.parts)
        self._let_follow(_APPENDED[type(gathered.head)] + lacking)
        if sum(map(len, gathered.parts)) > self._limits.max_message_bytes:
            raise MessageError("the parts of one image or header are above max_message_bytes")
        if lacking <= 0:
            return gathered
        self._open = gathered
        return None

    def _let_follow(self, parts: int) -> None:
        self._may_follow = max(0, parts)
        if parts < 0:
            raise MessageError("this message begins no header, image or end: is this Stream V1?")


class Piece(msgspec.Struct, frozen=True, eq=False):
    """A head, None where a message goes on with what another began, and the parts that follow."""

    head: Head | None
    parts: Parts


def pieces(parts: Parts, limits: Limits) -> Iterator[Piece]:
    """Yield a message in pieces, cut before each header, image or end in it; an ordinary one stays whole.

    Bytes that a head announces are never taken for a head, whatever they are.
    """
    if not parts:
        raise MessageError("a message without parts")
    head, begin = _head(parts[0], limits), 0
    while begin < len(parts):
        first = begin if head is None else begin + 1
        end, after = first + (1 if head is None else _needed(head)), None
        while end < len(parts) and (after := _head(parts[end], limits)) is None:
            end += 1
        yield Piece(head, parts[first:end])
        head, begin = after, end


def read_image(parts: Sequence[Blob], limits: Limits) -> PackedFrame:
    """Return the pixels of an image.

    Args:
        parts: those after its first one: the array's head, its bytes, and what else there is.
        limits: how long the head may be.

    Raises:
        PixelError: they are not all there, or what they say of themselves cannot be.
    """
    if len(parts) < _PARTS_OF_AN_IMAGE:
        raise PixelError("its pixels never came: does a proxy lose messages?")
    try:
        head = decode_json(parts[0], _ARRAY_HEADS, limits.max_head_bytes)
    except MessageError as error:
        raise PixelError(f"the head of its pixels: {error}") from error
    return packed_frame(head.shape[::-1], head.type, head.encoding, parts[1])


def read_mask(parts: Sequence[Blob], limits: Limits) -> PackedFrame | None:
    """Return the pixel mask in a header, uint32, 0 where a pixel is good; None where there is none.

    Simulators put a few bytes in its place, which tell nothing.

    Args:
        parts: those after the configuration: heads and bytes of the tables, in turn.
        limits: how long a head may be.
    """
    for head_part, blob in zip(parts[::2], parts[1::2], strict=False):
        try:
            head = decode_json(head_part, _ARRAY_HEADS, limits.max_head_bytes)
        except MessageError:
            continue
        if head.htype == "dpixelmask-1.0" and len(blob) == 4 * math.prod(head.shape):
            return PackedFrame(head.shape[::-1], np.dtype("<u4"), "raw", blob)
    return None


def _head(part: Blob, limits: Limits) -> Head | None:
    """Return the first part of a header, an image or an end; None for any other part."""
    if part[:1] != _OPENING or len(part) > limits.max_head_bytes:
        return None
    try:
        kind = _KINDS.decode(part).htype
    except (ValueError, RecursionError):
        return None
    return decode_json(part, _HEADS, limits.max_head_bytes) if kind in _HEAD_TYPES else None
