"""A file that is sent while the service may put a newer one in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from starlette.responses import StreamingResponse

_CHUNK_BYTES = 1 << 18


def download(path: Path, media_type: str) -> StreamingResponse:
    """Answer with the file that has this name now, whole, even if it is replaced meanwhile.

    Starlette's `FileResponse` takes the size and the content in two steps by name: a result that is replaced
    between them, by the refined one, is sent with the other's length and torn off.

    Raises:
        OSError: the file cannot be opened.
    """
    file = path.open("rb")
    size_bytes = os.fstat(file.fileno()).st_size
    headers = {
        "content-length": str(size_bytes),
        "content-disposition": f'attachment; filename="{path.name}"',
    }
    return StreamingResponse(_chunks(file), media_type=media_type, headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
