"""Stream V2's images of one series, read without decoding what is the same in all of them.

Such messages differ in the number of the image, its times and its pixels. Where all else is byte by byte as
in one that was looked through and decoded before, and the numbers take as many bytes, a message is built of
the same items: then the number and the pixels are all that has to be read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from service.errors import PixelError
from service.messages import Blob
from service.wire.cbor_look import BYTE_STRING, MAP, TAG, UNSIGNED, Item
from service.wire.fields import Message, short
from service.wire.packed import PackedFrame
from service.wire.typed_arrays import read_array

Told = TypeVar("Told")

_TIMES: Final = (b"start_time", b"stop_time", b"real_time")  # [ticks, ticks a second]
_MOST_KNOWN: Final = 16  # a few for each series: numbers of more bytes make others
_MOST_FIXED_BYTES: Final = 4096
_BITS_IN_HEAD: Final = 0b11111
_LARGEST_IN_HEAD: Final = 23


class KnownImage(msgspec.Struct, frozen=True, eq=False):
    """What an image's message says.

    Attributes:
        message: what is the same in all messages of its kind; number, times and pixels are another's.
        index: number of the image.
        frames: by channel: which of its blobs a frame's pixels are, and the same frame of another image.
        blobs: the pixels.
    """

    message: Message
    index: int
    frames: Mapping[str, tuple[int, PackedFrame]]
    blobs: Sequence[Blob]

    def frame(self, wanted: str | None) -> PackedFrame:
        """Return the pixels of the wanted channel; raises as `of_channel`."""
        number, other = of_channel(self.frames, wanted)
        return PackedFrame(other.shape, other.dtype, other.encoding, self.blobs[number])


class KnownImages:
    """The kinds of image messages that were met; the one met longest ago is forgotten first."""

    def __init__(self) -> None:
        self._kinds: list[_Kind] = []  # the last met first

    def read(self, part: Blob) -> KnownImage | None:
        """Return what a message says, None where it is of no known kind."""
        for place, kind in enumerate(self._kinds):
            image = kind.read(part)
            if image is not None:
                if place:
                    self._kinds.insert(0, self._kinds.pop(place))
                return image
        return None

    def learn(self, part: bytes, items: Sequence[Item], message: Message) -> None:
        """Know such messages from now on, if they are of the usual build.

        Args:
            part: an image's message.
            items: what it is built of.
            message: what it was decoded to.
        """
        kind = _kind_of(part, items, message)
        if kind is not None:
            self._kinds = [kind, *self._kinds[: _MOST_KNOWN - 1]]


def of_channel(channels: Mapping[Any, Told], wanted: str | None) -> Told:
    """Return what an image tells of the wanted channel, of the first where None.

    Raises:
        PixelError: it tells nothing of that channel.
    """
    channel = next(iter(channels), None) if wanted is None else wanted
    if channel not in channels:
        raise PixelError(f"the image holds {short(list(channels))}, not channel {channel!r}")
    return channels[channel]


class _Section(NamedTuple):
    """What lies before, between and behind the pixels, read as one large number.

    Attributes:
        size: how many bytes it takes.
        mask: which of its bits are the same in all messages of a kind.
        fixed: these bits.
        length: which of the others tell how many bytes of pixels follow; 0 where none do.
    """

    size: int
    mask: int
    fixed: int
    length: int


class _Kind(msgspec.Struct, frozen=True, eq=False):
    """Messages that differ in nothing but the bits that their sections leave open.

    Attributes:
        message: what one of them was decoded to.
        frames: by channel: which of the blobs a frame's pixels are, and the frame without them.
        sections: of a message, from first to last.
        index_in: the section that tells the image's number.
        index_shift, index_mask: how many bits are behind it there, and its own without those.
        largest_index: the number may be, for all bytes to be where they are.
    """

    message: Message
    frames: Mapping[str, tuple[int, PackedFrame]]
    sections: Sequence[_Section]
    index_in: int
    index_shift: int
    index_mask: int
    largest_index: int

    def read(self, part: Blob) -> KnownImage | None:
        """Return what a message says, None where it is of another kind."""
        view, at = memoryview(part), 0
        told, blobs = [], []
        for size, mask, fixed, length in self.sections:
            begin = at + size
            bits = int.from_bytes(part[at:begin], "big")
            if bits & mask != fixed:
                return None
            told.append(bits)
            at = begin + (bits & length)
            blobs.append(view[begin:at])
        if at != len(part):
            return None
        index = told[self.index_in] >> self.index_shift & self.index_mask
        return None if index > self.largest_index else KnownImage(self.message, index, self.frames, blobs)


def _kind_of(part: bytes, items: Sequence[Item], message: Message) -> _Kind | None:
    """Return the kind of a message, None where it is not of the usual build."""
    fields = _fields(part, items)
    frames = _frames(message)
    blobs = [item for item in fields.get(b"data", ()) if item.major == BYTE_STRING and _has_argument(item)]
    index = fields.get(b"image_id", ())
    if [part[blob.content : blob.end] for blob in blobs] != [frame.blob for frame in frames.values()]:
        return None
    if not frames or len(index) != 1 or index[0].major != UNSIGNED:
        return None
    if len(part) - sum(len(frame.blob) for frame in frames.values()) > _MOST_FIXED_BYTES:
        return None
    numbers = [item for key in _TIMES for item in fields.get(key, ())[1:2] if item.major == UNSIGNED]
    times = [time for time in numbers if _has_argument(time)]
    begins = [0, *(blob.end for blob in blobs)]
    ends = [*(blob.content for blob in blobs), len(part)]
    open_items = [*index, *times, *blobs]
    borders = zip(begins, ends, strict=True)
    sections = [_section(part, begin, end, open_items) for begin, end in borders if begin < end]
    inside = bisect_right(begins, index[0].head) - 1
    return _Kind(
        {key: value for key, value in message.items() if key != "data"},
        {
            channel: (number, msgspec.structs.replace(frame, blob=b""))
            for number, (channel, frame) in enumerate(frames.items())
        },
        sections,
        inside,
        8 * (ends[inside] - index[0].end),
        _argument_mask(index[0]),
        _argument_mask(index[0]) if _has_argument(index[0]) else _LARGEST_IN_HEAD,
    )


def _section(part: bytes, begin: int, end: int, open_items: Sequence[Item]) -> _Section:
    """Return the section of a message that lies there; a byte string that begins in it ends it."""
    mask = (1 << 8 * (end - begin)) - 1
    length = 0
    for item in open_items:
        if begin <= item.head < end:
            argument = _argument_mask(item) << 8 * (end - item.content)
            mask &= ~argument
            length |= argument if item.major == BYTE_STRING else 0
    return _Section(end - begin, mask, int.from_bytes(part[begin:end], "big") & mask, length)


def _fields(part: bytes, items: Sequence[Item]) -> dict[bytes, Sequence[Item]]:
    """Return the items of each value of a message's map, by their key; nothing where keys come twice."""
    top = 1 if items[0].major == TAG else 0
    inside = [n for n, item in enumerate(items) if item.depth == items[top].depth + 1]
    if items[top].major != MAP or len(inside) % 2:  # with a break, where the map's length is not told
        return {}
    ends = [*inside[2::2], len(items)]
    fields = {
        part[items[key].content : items[key].end]: items[value:end]
        for key, value, end in zip(inside[::2], inside[1::2], ends, strict=True)
    }
    return fields if 2 * len(fields) == len(inside) else {}


def _frames(message: Message) -> dict[str, PackedFrame]:
    """Return the frames of a message by channel; none where one of them cannot be read."""
    data = message.get("data")
    try:
        return {name: read_array(node) for name, node in data.items()} if isinstance(data, Mapping) else {}
    except PixelError:
        return {}


def _has_argument(item: Item) -> bool:
    """Whether its number or length is told behind its first byte, not in it."""
    return item.content > item.head + 1


def _argument_mask(item: Item) -> int:
    """Return the bits of its number or length: those behind its first byte, or the last five of that."""
    return (1 << 8 * (item.content - item.head - 1)) - 1 or _BITS_IN_HEAD
