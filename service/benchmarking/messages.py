"""What a detector sends of frames, for the decoders to be timed on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from service.messages import ScanStart
from service.wire.senders import SENDERS, Encoding, Sending

SCAN = "bench"


def stream_messages(
    stream_format: str, encoding: Encoding, counts: NDArray[Any], stack: int = 1
) -> list[list[bytes]]:
    """Return the parts of each message: the start, then every frame, or so many at a time.

    Args:
        stream_format: one of `SENDERS`.
        encoding: of the pixels.
        counts: (n, H, W) frames.
        stack: frames a message, where the format packs several.
    """
    start = ScanStart(SCAN, (counts.shape[1], counts.shape[2]), counts.dtype, len(counts))
    sender = SENDERS[stream_format](Sending(start, encoding, 1, datetime.now(UTC), 1e-3))
    firsts = range(0, len(counts), stack)
    return [sender.start(), *(sender.frames(first, counts[first : first + stack], None) for first in firsts)]
