"""The series that a decoder knows, and what becomes of their images; the same for every detector's format.

A series whose header was missed begins with what its first image tells. One whose header came in part, or did
not tell the frames' shape, begins then too, with all else that the header told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np

from service.errors import PixelError
from service.messages import Event, Image, Rejected, ScanStart
from service.wire.fields import short
from service.wire.packed import PackedFrame
from service.wire.pixels import Limits

UNTOLD_SHAPE: Final = (0, 0)


@dataclass(frozen=True, slots=True)
class Series:
    """What the images of a series are read with.

    Attributes:
        scan: name of the scan.
        frame_shape: (H, W); None until the first image tells it.
        dtype: type of the pixels; None until the first image tells it.
        header: what the header told, kept until the shape is known; None where no header came.
    """

    scan: str
    frame_shape: tuple[int, int] | None = None
    dtype: np.dtype[Any] | None = None
    header: ScanStart | None = None

    @property
    def missed(self) -> bool:
        """Whether neither a header nor an image has told anything of it so far."""
        return self.frame_shape is None and self.header is None


def announced(start: ScanStart) -> tuple[Series, list[Event]]:
    """Return the series that a header begins, and its events: none yet where the shape is `UNTOLD_SHAPE`."""
    if start.frame_shape == UNTOLD_SHAPE:
        return Series(start.scan, header=start), []
    return Series(start.scan, start.frame_shape), [start]


Known = TypeVar("Known", bound=Series)


class SeriesBook(Generic[Known]):
    """The series that were heard of, by their number; the oldest is forgotten first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: OrderedDict[int, Known] = OrderedDict()

    def get(self, number: int) -> Known | None:
        """Return a series, None where it is not known."""
        return self._known.get(number)

    def remember(self, number: int, series: Known) -> None:
        """Read the images of this number with `series` from now on."""
        self._known[number] = series
        self._known.move_to_end(number)
        if len(self._known) > self._limits.max_known_scans:
            self._known.popitem(last=False)

    def image(
        self, number: int, series: Known, index: int, read: Callable[[], PackedFrame], received_ns: int
    ) -> list[Event]:
        """Return the events of an image.

        Args:
            number: of its series.
            series: the series, as known or as if none had been heard of it.
            index: frame number, from 0.
            read: takes the pixels out of the message, or raises `PixelError`.
            received_ns: wall clock when the message came, ns since the epoch.
        """
        try:
            packed = _fitting(read(), series)
            counts = packed.unpack(self._limits)
        except PixelError as error:
            return [_rejected(series, index, str(error))]
        begun: list[Event] = [] if series.frame_shape else [_begun(series, packed, index)]
        if begun or series.dtype is None:
            self.remember(number, replace(series, frame_shape=packed.shape, dtype=packed.dtype, header=None))
        return [*begun, Image(series.scan, index, counts, received_ns, packed)]


def _fitting(packed: PackedFrame, series: Series) -> PackedFrame:
    if series.frame_shape is not None and packed.shape != series.frame_shape:
        raise PixelError(f"image of {short(packed.shape)} in a series of {short(series.frame_shape)}")
    if series.dtype is not None and packed.dtype.itemsize != series.dtype.itemsize:
        raise PixelError(f"image of {packed.dtype} in a series of {series.dtype}")
    return packed


def _rejected(series: Series, index: int, detail: str) -> Rejected:
    if not series.missed:
        return Rejected(series.scan, index, "undecodable", detail)
    unread = f"{series.scan} never started here, and its image cannot be read: {detail}"
    return Rejected(series.scan, index, "no_header", unread)


def _begun(series: Series, packed: PackedFrame, index: int) -> ScanStart:
    dtype = packed.dtype.newbyteorder("<")
    if (told := series.header) is not None:
        mask = told.mask if told.frame_shape == packed.shape else None
        return replace(told, frame_shape=packed.shape, dtype=dtype, mask=mask)
    height, width = packed.shape
    assumed = (
        f"frames of {height} × {width} {packed.dtype.name} as image {index} has, no mask and no geometry; "
        "was the service up before the detector was armed?"
    )
    return ScanStart(series.scan, packed.shape, dtype, assumed=assumed)
