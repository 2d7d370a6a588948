"""A decoder that finds out by itself what is spoken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from service.errors import MessageError
from service.messages import Event
from service.wire.fields import Parts
from service.wire.pixels import DEFAULT_LIMITS


class Decoder(Protocol):
    """What every format's decoder offers."""

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message, or raise `MessageError`."""
        ...


class _Kind(msgspec.Struct, frozen=True):
    htype: str


_KINDS: Final = msgspec.json.Decoder(_Kind)
_JSON_FORMATS: Final = {
    "dheader-1.0": "dectris-v1",
    "dimage-1.0": "dectris-v1",
    "dseries_end-1.0": "dectris-v1",
    "array-1.0": "array-1.0",
    "header": "array-1.0",
    "image": "array-1.0",
    "series_end": "array-1.0",
}
# The map that opens a message is of another byte in each encoding: JSON's brace; CBOR's map, or the tag that
# says "this is CBOR" in front of it; msgpack's map. RFC 8949, section 3; msgpack specification, "map format".
_JSON: Final = frozenset(b"{")
_CBOR: Final = frozenset(range(0xA0, 0xC0)) | {0xD9}
_MSGPACK: Final = frozenset(range(0x80, 0x90)) | {0xDE, 0xDF}


def stream_format(parts: Parts) -> str | None:
    """Return the format of a whole message, by how it opens; None where it opens in no known way.

    JSON that is longer than any head is not read.
    """
    opening = parts[0][0] if parts and len(parts[0]) else None
    if opening in _JSON:
        return _json_format(parts[0])
    if opening in _CBOR:
        return "dectris-v2"
    return "native" if opening in _MSGPACK else None


class DetectingDecoder:
    """Takes the format of the first message that can be read, and stays with it.

    Args:
        decoder_for: makes the decoder of a format.
        format_of: tells the format of a message, None where it is not known.
    """

    def __init__(
        self,
        decoder_for: Callable[[str], Decoder],
        format_of: Callable[[Parts], str | None] = stream_format,
    ) -> None:
        self._decoder_for = decoder_for
        self._format_of = format_of
        self._settled: Decoder | None = None

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message.

        Raises:
            MessageError: the message follows no known format, or not the one that is spoken here.
        """
        if self._settled is not None:
            return self._settled.decode(parts, received_ns)
        told = self._format_of(parts)
        if told is None:
            raise MessageError("a message of no known format: was the sender started before the service?")
        decoder = self._decoder_for(told)
        events = decoder.decode(parts, received_ns)
        self._settled = decoder
        return events


def _json_format(part: bytes | memoryview) -> str | None:
    if len(part) > DEFAULT_LIMITS.max_head_bytes:
        return None
    try:
        return _JSON_FORMATS.get(_KINDS.decode(part).htype)
    except (ValueError, RecursionError):
        return None
