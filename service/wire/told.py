"""What is told of a scan before its frames, where the schema is ours.

That is the native stream, and the note that our senders leave in the JSON of other formats.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from service.messages import ScanStart
from service.wire.fields import SCAN_NAME_PATTERN

ScanName = Annotated[str, msgspec.Meta(pattern=SCAN_NAME_PATTERN)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e30)]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a scan, None where they are not told; named as in `ScanStart`."""

    frames: Whole | None = None
    wavelength_m: Positive | None = None
    distance_m: Positive | None = None
    detector_pixel_m: Positive | None = None
    object_pixel_m: Positive | None = None
    saturation: Positive | None = None


_FACTS: Final = Told.__struct_fields__


def facts(source: Told | ScanStart) -> dict[str, Any]:
    """Return the facts of `Told` that a head, a note or a scan tells, by name."""
    return {name: getattr(source, name) for name in _FACTS}
