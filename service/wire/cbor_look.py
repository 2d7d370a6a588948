"""A look through a CBOR message before it is decoded: how many items, how deep, and which tags.

A decoder may take a hundred bytes for an item of one byte; and some tags make it work long, or build what
contains itself. So the heads of the items are read here, and strings passed over. RFC 8949, section 3.

The images of a series are built alike: what was found of the first holds for all whose heads are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from service.errors import MessageError
from service.wire.pixels import Limits

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7  # major types
_MORE_BYTES, _RESERVED, _UNENDING = 24, 28, 31
_ENDLESS: Final = 1 << 64  # until a break
# Decimals and fractions, references, patterns, e-mails, sets: no detector sends them.
_REFUSED_TAGS: Final = frozenset({4, 5, 25, 28, 29, 30, 35, 36, 256, 258})

_MOST_LAYOUTS: Final = 64  # a few for each detector: numbers and names of other lengths make others
_MOST_HEADS: Final = 256  # of a layout; an image has some forty items


class _Item(NamedTuple):
    """An item: its major type, and where its head, its content (a string's) and what follows begin."""

    major: int
    head: int
    content: int
    end: int


class CborLook:
    """Looks through the messages of one peer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._layouts: list[_Layout] = []  # of messages that were looked through, the last first

    def through(self, part: bytes) -> None:
        """Refuse a message that would cost far more than its bytes; what is merely damaged the decoder finds.

        Raises:
            MessageError: it has too many items, is too deep, or has a tag that no detector sends.
        """
        for place, layout in enumerate(self._layouts):
            if layout.fits(part):
                self._layouts.insert(0, self._layouts.pop(place))
                return
        items = list(_items(part, self._limits))
        is_whole = len(items) > 0 and items[-1].end == len(part)
        if is_whole and len(items) <= _MOST_HEADS and len(self._layouts) < _MOST_LAYOUTS:
            self._layouts.insert(0, _Layout(part, items))


class _Layout:
    """The heads of a message's items, but for the values of numbers and the lengths of byte strings."""

    def __init__(self, part: bytes, items: Sequence[_Item]) -> None:
        pieces = [b""]
        for item in items:
            pieces[-1] += _pattern(part, item)
            if _is_long(item):
                pieces.append(b"")
        self._pieces = [re.compile(piece, re.DOTALL) for piece in pieces]

    def fits(self, part: bytes) -> bool:
        """Whether a message is built so: then the same items are in it, and as deep."""
        at = 0
        for piece in self._pieces:
            found = piece.match(part, at) if at <= len(part) else None
            if found is None:
                return False
            at = found.end() + (int.from_bytes(found[1], "big") if found.lastindex else 0)
        return at == len(part)


def _pattern(part: bytes, item: _Item) -> bytes:
    """Return what matches the items that are as good as this one, up to the content where that is long."""
    first, argument = part[item.head], item.content - item.head - 1
    if _is_long(item):
        return re.escape(part[item.head : item.head + 1]) + b"(.{%d})" % argument
    if item.major in (_ARRAY, _MAP, _TAG):
        return re.escape(part[item.head : item.content])
    if first < _MORE_BYTES:  # a small number in the head itself
        return rb"[\x00-\x17]"
    if item.major in (_BYTES, _TEXT):
        return re.escape(part[item.head : item.content]) + b".{%d}" % (item.end - item.content)
    return re.escape(part[item.head : item.head + 1]) + b".{%d}" % argument


def _is_long(item: _Item) -> bool:
    """Whether it is a byte string that tells its length behind the first byte: pixels, which are packed."""
    return item.major == _BYTES and item.content > item.head + 1


def _items(part: bytes, limits: Limits) -> Iterator[_Item]:
    """Yield the items and breaks of a message, as far as it goes; raises as `CborLook.through` does."""
    at, items, end = 0, 0, len(part)
    left = [1]  # items still to come, in each of those that are open
    while left and at < end:
        head, major, told = at, part[at] >> 5, part[at] & 31
        at += 1
        if told >= _MORE_BYTES:
            told, at = _argument(part, at, told)
        content = at
        if major == _SIMPLE and told == _ENDLESS:
            left[-1] = 0  # a break
        else:
            left[-1] -= 1
            items += 1
            if told == _ENDLESS or _ARRAY <= major <= _TAG:
                left.append(_inside(major, told))
            elif major in (_BYTES, _TEXT):
                at += told
            if items > limits.max_items or len(left) > limits.max_depth:
                raise _too_much(items, limits)
        yield _Item(major, head, content, at)
        while left and left[-1] <= 0:
            left.pop()


def _argument(part: bytes, at: int, told: int) -> tuple[int, int]:
    """Return the argument that follows the first byte of an item, and where its content begins."""
    if told == _UNENDING:
        return _ENDLESS, at
    if told >= _RESERVED:
        raise MessageError("not a CBOR message: a reserved item")
    end = at + (1 << (told - _MORE_BYTES))
    return int.from_bytes(part[at:end], "big"), end


def _inside(major: int, told: int) -> int:
    """Return how many items are inside one."""
    if major == _TAG:
        if told in _REFUSED_TAGS:
            raise MessageError(f"CBOR tag {told} is none that a detector sends: is this Stream V2?")
        return 1
    return 2 * told if major == _MAP else told


def _too_much(items: int, limits: Limits) -> MessageError:
    if items > limits.max_items:
        return MessageError(f"more than {limits.max_items} items in one message: is this Stream V2?")
    return MessageError(f"items nested more than {limits.max_depth} deep: is this Stream V2?")
