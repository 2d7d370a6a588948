"""A look through a CBOR message before it is decoded: how many items, how deep, and which tags.

A decoder may take a hundred bytes for an item of one byte; and some tags make it work long, or build what
contains itself. So the heads of the items are read here, and strings passed over. RFC 8949, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from service.errors import MessageError
from service.wire.pixels import Limits

UNSIGNED, BYTE_STRING, _TEXT, _ARRAY, MAP, TAG, _SIMPLE = 0, 2, 3, 4, 5, 6, 7
"""Major types."""

_MORE_BYTES, _RESERVED, _UNENDING = 24, 28, 31
_ENDLESS: Final = 1 << 64  # until a break
# Decimals and fractions, references, patterns, e-mails, sets: no detector sends them.
_REFUSED_TAGS: Final = frozenset({4, 5, 25, 28, 29, 30, 35, 36, 256, 258})


class Item(NamedTuple):
    """An item, or a break.

    Attributes:
        major: its major type.
        depth: 1 for a message's own; an item in an array, a map or behind a tag is one deeper than that.
        head, content, end: where its head, its content (a string's) and what follows begin.
    """

    major: int
    depth: int
    head: int
    content: int
    end: int


def look_through(part: bytes, limits: Limits) -> list[Item]:
    """Return the items of a message, as far as it goes; what is merely damaged the decoder finds.

    Raises:
        MessageError: it would cost far more than its bytes: it has too many items, is too deep, or has a tag
            that no detector sends.
    """
    return list(_items(part, limits))


def _items(part: bytes, limits: Limits) -> Iterator[Item]:
    """Yield the items and breaks of a message, as far as it goes; raises as `look_through` does."""
    at, items, end = 0, 0, len(part)
    left = [1]  # items still to come, in each of those that are open
    while left and at < end:
        head, depth, major, told = at, len(left), part[at] >> 5, part[at] & 31
        at += 1
        if told >= _MORE_BYTES:
            told, at = _argument(part, at, told)
        content = at
        if major == _SIMPLE and told == _ENDLESS:
            left[-1] = 0  # a break
        else:
            left[-1] -= 1
            items += 1
            if told == _ENDLESS or _ARRAY <= major <= TAG:
                left.append(_inside(major, told))
            elif major in (BYTE_STRING, _TEXT):
                at += told
            if items > limits.max_items or len(left) > limits.max_depth:
                raise _too_much(items, limits)
        yield Item(major, depth, head, content, at)
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
    if major == TAG:
        if told in _REFUSED_TAGS:
            raise MessageError(f"CBOR tag {told} is none that a detector sends: is this Stream V2?")
        return 1
    return 2 * told if major == MAP else told


def _too_much(items: int, limits: Limits) -> MessageError:
    if items > limits.max_items:
        return MessageError(f"more than {limits.max_items} items in one message: is this Stream V2?")
    return MessageError(f"items nested more than {limits.max_depth} deep: is this Stream V2?")
