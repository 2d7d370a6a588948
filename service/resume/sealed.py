"""Small files that are whole or refused: a mark, the version of the format, a checksum, and the content."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from model.whole_files import written_whole
from service.errors import PtycholiveError

_MARK: Final = b"ptychrun"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<8sII")


class SnapshotError(PtycholiveError):
    """What was kept of a scan cannot be used."""


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file under another name, and rename it.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    with written_whole(path) as half, half.open("wb") as file:
        file.write(_HEAD.pack(_MARK, _VERSION, zlib.crc32(content)))
        file.write(content)


def read_sealed(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        SnapshotError: it is not there, of another version, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) < _HEAD.size:
        raise SnapshotError(f"{path.name} is damaged: only {len(content)} bytes are left of it")
    mark, version, checksum = _HEAD.unpack_from(content)
    if mark != _MARK or version != _VERSION:
        raise SnapshotError(f"{path.name} is not of this version of ptycholive")
    if zlib.crc32(content[_HEAD.size :]) != checksum:
        raise SnapshotError(f"{path.name} is damaged: its checksum does not hold")
    return content[_HEAD.size :]
