"""Parts that hold JSON, checked against a schema; and the note that our own senders leave in it.

Receivers skip keys that they do not know. So our senders tell what a format has no word for, above all the
planned positions, under the one key `ptycholive`: in DECTRIS V1's configuration, and in the second part of
MAX IV's header.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from service.errors import MessageError
from service.messages import Blob, Float64, ScanStart
from service.wire.fields import decode_positions, encode_positions_m
from service.wire.told import ScanName, Told, facts

Read = TypeVar("Read")

_WORDS_OF_AN_ERROR: Final = 120
_VALUES: Final = msgspec.json.Decoder()
_MOST_BYTES_OF_A_VALUE: Final = 4096


def decode_json(part: Blob, schema: msgspec.json.Decoder[Read], most_bytes: int) -> Read:
    """Return what a part of a message says.

    Args:
        part: the bytes.
        schema: what it must say.
        most_bytes: how long it may be.

    Raises:
        MessageError: it is too long, no JSON, or does not fit the schema.
    """
    if len(part) > most_bytes:
        raise MessageError(f"{len(part)} bytes in the place of JSON: are the message's parts in order?")
    try:
        return schema.decode(part)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not the JSON expected: {str(error)[:_WORDS_OF_AN_ERROR]}") from error


class JsonFields:
    """Reads some fields of a map of JSON, numbers and short words; of all others nothing is built.

    Args:
        names: of the fields.
    """

    def __init__(self, *names: str) -> None:
        fields = [(name, msgspec.Raw, msgspec.Raw(b"null")) for name in names]
        self._schema = msgspec.json.Decoder(msgspec.defstruct("Fields", fields))

    def read(self, part: Blob, most_bytes: int) -> dict[str, Any]:
        """Return the fields of a part, None where one is not told.

        Raises:
            MessageError: it is longer than `most_bytes`, one of the fields is long, or it is no map of JSON.
        """
        told = msgspec.structs.asdict(decode_json(part, self._schema, most_bytes))
        return {name: decode_json(bytes(raw), _VALUES, _MOST_BYTES_OF_A_VALUE) for name, raw in told.items()}


class Note(Told, frozen=True, omit_defaults=True, kw_only=True):
    """What our senders add to a format; `positions_m` is base64 of float64 pairs y, x."""

    scan: ScanName | None = None
    positions_m: bytes | None = None

    def positions(self) -> Float64 | None:
        """Return the planned positions, (n, 2) y, x in metres; None where none are told, or damaged ones."""
        if not self.positions_m:
            return None
        try:
            return decode_positions(self.positions_m)
        except MessageError:
            return None


class _Named(msgspec.Struct, frozen=True):
    scan: ScanName | None = None


_NAMES: Final = msgspec.json.Decoder(_Named)


def told_name(part: Blob) -> str | None:
    """Return the scan's name in what a user had the detector append to its header, as `{"scan": "…"}`.

    A bluesky plan gives its run there. What else is there is not ours to judge: None where no name is.
    """
    if len(part) > _MOST_BYTES_OF_A_VALUE:
        return None
    try:
        return _NAMES.decode(part).scan
    except (ValueError, RecursionError):
        return None


class _Noted(msgspec.Struct, frozen=True):
    ptycholive: Note = Note()


_NOTES: Final = msgspec.json.Decoder(_Noted)


def decode_note(part: Blob, most_bytes: int) -> Note:
    """Return our note; an empty one where there is none: what else is there is not ours to judge.

    Args:
        part: the bytes.
        most_bytes: a longer part is not read.
    """
    if len(part) > most_bytes:
        return Note()
    try:
        return _NOTES.decode(part).ptycholive
    except (ValueError, RecursionError):
        return Note()


def noted(start: ScanStart) -> dict[str, Note]:
    """Return what to add to a map of JSON: all of `start` but the frames' shape, type and mask."""
    note = Note(
        scan=start.scan,
        **facts(start),
        positions_m=None if start.positions_m is None else encode_positions_m(start.positions_m),
    )
    return {"ptycholive": note}
