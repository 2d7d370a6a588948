"""A frame as it lies in a message, whatever the format: not yet unpacked."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import PixelError
from service.messages import Blob, PackedPixels
from service.wire.fields import short
from service.wire.pixels import PIXEL_DTYPES, Limits, decode_frame

_ENCODING: Final = re.compile(r"(?P<shuffled>bs(?P<bits>8|16|32)?)?-?(?P<lz4>lz4)?(?P<order>[<>]?)")


_LONGEST_ENCODING: Final = len("bs32-lz4<")
_MOST_ENCODINGS: Final = 64  # that are remembered


class PackedFrame(PackedPixels, frozen=True, eq=False, gc=False):
    """A frame as it lies in a message, and how to unpack it."""

    def unpack(self, limits: Limits) -> NDArray[Any]:
        """Return the (H, W) array, read-only, little-endian.

        Raises:
            PixelError: it is above the limits, or its bytes are damaged.
        """
        return decode_frame(self.blob, self.shape, self.dtype, self.encoding, limits)


def packed_frame(shape: tuple[int, int], pixel_type: str, encoding: str, blob: Blob) -> PackedFrame:
    """Return a frame whose encoding is told in DECTRIS' words, `[bs[<BITS>]][[-]lz4][<|>]`.

    Args:
        shape: (H, W).
        pixel_type: one of `pixels.PIXEL_DTYPES`.
        encoding: `<` is raw, `lz4<` one bare LZ4 block, `bs16-lz4<` framed blocks behind a 12-byte head.
        blob: the bytes.

    Raises:
        PixelError: type or encoding is none of these, or they disagree.
    """
    if pixel_type not in PIXEL_DTYPES:
        raise PixelError(f"pixel type {short(pixel_type)} is not {', '.join(PIXEL_DTYPES)}")
    if len(encoding) > _LONGEST_ENCODING:
        raise PixelError(_no_encoding(encoding))
    return PackedFrame(shape, *_type_and_encoding(pixel_type, encoding), blob)


@lru_cache(_MOST_ENCODINGS)
def _type_and_encoding(pixel_type: str, encoding: str) -> tuple[np.dtype[Any], str]:
    """Return a pixel's type, and one of `pixels.ENCODINGS`; raises as `packed_frame`."""
    told = _ENCODING.fullmatch(encoding)
    if told is None or (told["shuffled"] and not told["lz4"]):
        raise PixelError(_no_encoding(encoding))
    dtype = np.dtype(pixel_type).newbyteorder(">" if told["order"] == ">" else "<")
    if not told["lz4"]:
        return dtype, "raw"
    if told["bits"] and int(told["bits"]) != 8 * dtype.itemsize:  # would unpack to garbage without an error
        raise PixelError(f"encoding {short(encoding)} for pixels of {pixel_type}")
    return dtype, "bslz4" if told["shuffled"] else "lz4"


def _no_encoding(told: str) -> str:
    return f"encoding {short(told)} is not <, lz4< or bs16-lz4<"
