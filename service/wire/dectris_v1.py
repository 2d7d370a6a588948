"""DECTRIS Stream V1, the legacy stream: JSON and pixels in ZMQ parts.

DECTRIS, SIMPLON API reference, "stream interface". What the parts hold, and how those that a proxy has
flattened are gathered, is in `dectris_v1_parts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.errors import MessageError, PixelError
from service.messages import Blob, Counts, Event, ScanEnd, ScanStart
from service.wire.dectris_v1_parts import (
    Gathered,
    Gatherer,
    Header,
    ImageHead,
    Piece,
    SeriesEnd,
    pieces,
    read_image,
    read_mask,
)
from service.wire.fields import METRES_AN_ANGSTROM, Message, Parts, beam_px, distance_m, positive, scaled
from service.wire.json_parts import JsonFields, decode_note, noted, told_name
from service.wire.pixels import DEFAULT_LIMITS, Limits, checked_shape, encode_pixels
from service.wire.series import UNTOLD_SHAPE, Series, SeriesBook, announced

_CONFIGURATION: Final = JsonFields(
    "beam_center_x", "beam_center_y", "bit_depth_image", "countrate_correction_count_cutoff",
    "detector_distance", "detector_translation", "nimages", "ntrigger", "trigger_mode", "wavelength",
    "x_pixel_size", "x_pixels_in_detector", "y_pixels_in_detector",
)  # fmt: skip
_EXTERNAL: Final = ("exte", "inte")  # each trigger takes one image
_UNTOLD_DTYPE: Final = np.dtype("<u4")
_NS_A_SECOND: Final = 1e9


class DectrisV1Decoder:
    """Bytes in, events out; remembers the series that it saw start, by their number."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._gatherer = Gatherer(limits)
        self._series: SeriesBook[Series] = SeriesBook(limits)

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message; none of one that is not whole yet.

        Args:
            parts: the ZMQ parts as they came: of headers, images or ends, or of a piece of one.
            received_ns: wall clock when they came, ns since the epoch.

        Raises:
            MessageError: the message does not follow the format; none of it can be attributed.
        """
        events: list[Event] = []
        for piece in pieces(parts, self._limits):
            events += self._decode(piece, received_ns)
        return events

    def _decode(self, piece: Piece, received_ns: int) -> list[Event]:
        cut_short, whole = self._gatherer.take(piece)
        salvaged = [] if cut_short is None else self._salvaged(cut_short, received_ns)
        return salvaged + ([] if whole is None else self._events(whole, received_ns))

    def _salvaged(self, gathered: Gathered, received_ns: int) -> list[Event]:
        """Take what can be had of a header or an image whose rest never came.

        A header's scan begins with its first image; what cannot be read must not cost the message at hand.
        """
        try:
            if not isinstance(gathered.head, Header):
                return self._events(gathered, received_ns)
            start = self._start(gathered.head.series, gathered)
        except MessageError:
            return []
        self._series.remember(gathered.head.series, Series(start.scan, header=start))
        return []

    def _events(self, gathered: Gathered, received_ns: int) -> list[Event]:
        match gathered.head:
            case ImageHead(series=number, frame=index):
                return self._image(number, index, gathered.parts, received_ns)
            case Header(series=number):
                return self._header(number, gathered)
            case SeriesEnd(series=number):
                return [ScanEnd(self._known(number).scan)]

    def _header(self, number: int, gathered: Gathered) -> list[Event]:
        series, events = announced(self._start(number, gathered))
        self._series.remember(number, series)
        return events

    def _start(self, number: int, gathered: Gathered) -> ScanStart:
        try:
            return _scan_start(number, gathered, self._limits)
        except (PixelError, MessageError) as error:
            raise MessageError(f"header of series {number}: {error}") from error

    def _image(self, number: int, index: int, parts: Sequence[Blob], received_ns: int) -> list[Event]:
        if index >= self._limits.max_scan_frames:
            raise MessageError(f"frame {index} is above the limit of {self._limits.max_scan_frames}")
        series = self._known(number)
        return self._series.image(number, series, index, lambda: read_image(parts, self._limits), received_ns)

    def _known(self, number: int) -> Series:
        return self._series.get(number) or Series(_numbered(number))


def _numbered(number: int) -> str:
    return f"series-{number}"


def _scan_start(number: int, gathered: Gathered, limits: Limits) -> ScanStart:
    part = gathered.parts[0] if gathered.needed and gathered.parts else b"{}"
    configuration = _CONFIGURATION.read(part, limits.max_configuration_bytes)
    note = decode_note(part, limits.max_configuration_bytes)
    frame_shape = _frame_shape(configuration, limits)
    return ScanStart(
        scan=note.scan or _appended_name(gathered) or _numbered(number),
        frame_shape=frame_shape,
        dtype=_image_dtype(configuration),
        frames=_expected_frames(configuration, limits),
        wavelength_m=scaled(positive(configuration, "wavelength"), METRES_AN_ANGSTROM),
        distance_m=distance_m(configuration),
        detector_pixel_m=positive(configuration, "x_pixel_size"),
        object_pixel_m=note.object_pixel_m,
        saturation=positive(configuration, "countrate_correction_count_cutoff"),
        mask=_mask(gathered.parts[1 : gathered.needed], frame_shape, limits),
        positions_m=note.positions(),
        beam_px=beam_px(configuration),
    )


def _appended_name(gathered: Gathered) -> str | None:
    """Return the name in the header's appendix, None where there is none."""
    return next(filter(None, map(told_name, gathered.parts[gathered.needed :])), None)


def _frame_shape(configuration: Message, limits: Limits) -> tuple[int, int]:
    """Return (H, W); `UNTOLD_SHAPE` where the header does not tell it (detail "none")."""
    sides = configuration.get("y_pixels_in_detector"), configuration.get("x_pixels_in_detector")
    if sides == (None, None):
        return UNTOLD_SHAPE
    return checked_shape(sides, limits)  # type: ignore[arg-type]  # it checks the types


def _image_dtype(configuration: Message) -> np.dtype[Any]:
    """Return the pixel type told; what counts is that of the first image."""
    bits = configuration.get("bit_depth_image")
    return np.dtype(f"<u{bits // 8}") if type(bits) is int and bits in (8, 16, 32) else _UNTOLD_DTYPE


def _expected_frames(configuration: Message, limits: Limits) -> int | None:
    """Return the images of the series; None where not told, or armed to run on and on."""
    triggers, images = configuration.get("ntrigger"), configuration.get("nimages")
    if type(triggers) is not int or type(images) is not int:
        return None
    told = triggers if configuration.get("trigger_mode") in _EXTERNAL else images * triggers
    return told if 0 < told <= limits.max_scan_frames else None


def _mask(parts: Sequence[Blob], frame_shape: tuple[int, int], limits: Limits) -> NDArray[np.bool_] | None:
    """Return True where the detector flags a pixel; None where no mask is told."""
    packed = read_mask(parts, limits)
    if packed is None or frame_shape == UNTOLD_SHAPE:
        return None
    if packed.shape != frame_shape:
        raise PixelError(f"pixel mask of {packed.shape} for frames of {frame_shape}: is a region set?")
    mask: NDArray[np.bool_] = packed.unpack(limits) != 0
    return mask


@dataclass(frozen=True, slots=True)
class SentSeries:
    """What the messages of one series, as the device sends them, have in common.

    Attributes:
        start: the scan; its name, positions and object pixel go into a note in the configuration.
        number: the device's number of the series.
        frame_time_s: from one image to the next.
    """

    start: ScanStart
    number: int
    frame_time_s: float = 1e-3


def encode_header(series: SentSeries) -> list[bytes]:
    """Return the parts of a header: of detail "all" where the scan has a mask, else "basic"."""
    detail = "basic" if series.start.mask is None else "all"
    head = {"htype": "dheader-1.0", "series": series.number, "header_detail": detail}
    tables = [] if series.start.mask is None else _tables(series.start.mask)
    return [_json(head), _json({**_configuration(series), **noted(series.start)}), *tables]


def encode_image(series: SentSeries, index: int, counts: Counts, encoding: str) -> list[bytes]:
    """Return the parts of an image.

    Args:
        series: the series it belongs to.
        index: frame number, from 0.
        counts: (H, W) unsigned integers.
        encoding: "raw", "lz4" or "bslz4".

    Raises:
        ConfigError: the encoding is unknown.
    """
    blob = encode_pixels(counts, encoding)
    words = {"raw": "<", "lz4": "lz4<", "bslz4": f"bs{8 * counts.itemsize}-lz4<"}[encoding]
    data = _json({**_array_head("dimage_d-1.0", counts), "encoding": words, "size": len(blob)})
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()  # of the second part, as the device does
    head = {"htype": "dimage-1.0", "series": series.number, "frame": index, "hash": digest}
    return [_json(head), data, blob, _json(_times(series, index))]


def encode_end(series: SentSeries) -> list[bytes]:
    """Return the part of an end."""
    return [_json({"htype": "dseries_end-1.0", "series": series.number})]


def _configuration(series: SentSeries) -> dict[str, object]:
    start = series.start
    beam_y, beam_x = start.beam_px or (None, None)
    fields: dict[str, object] = {
        "beam_center_x": beam_x,
        "beam_center_y": beam_y,
        "bit_depth_image": 8 * start.dtype.itemsize,
        "countrate_correction_count_cutoff": None if start.saturation is None else int(start.saturation),
        "detector_distance": start.distance_m,
        "frame_time": series.frame_time_s,
        "nimages": start.frames,
        "ntrigger": 1,
        "trigger_mode": "ints",
        "wavelength": scaled(start.wavelength_m, 1 / METRES_AN_ANGSTROM),
        "x_pixel_size": start.detector_pixel_m,
        "x_pixels_in_detector": start.frame_shape[1],
        "y_pixel_size": start.detector_pixel_m,
        "y_pixels_in_detector": start.frame_shape[0],
    }
    return {key: value for key, value in fields.items() if value is not None}


def _tables(mask: NDArray[np.bool_]) -> list[bytes]:
    """Return the tables of a header: a flat field of ones, the mask, count rates that need no correction."""
    rates = np.array([[0.0, 1e6], [0.0, 1e6]], "<f4")
    tables = {
        "dflatfield-1.0": np.ones(mask.shape, "<f4"),
        "dpixelmask-1.0": mask.astype("<u4"),
        "dcountrate_table-1.0": rates,
    }
    parts = ((_json(_array_head(htype, table)), table.tobytes()) for htype, table in tables.items())
    return [part for pair in parts for part in pair]


def _array_head(htype: str, array: NDArray[Any]) -> dict[str, object]:
    return {"htype": htype, "shape": list(array.shape[::-1]), "type": array.dtype.name}


def _times(series: SentSeries, index: int) -> dict[str, object]:
    real_ns = round(series.frame_time_s * _NS_A_SECOND)
    return {
        "htype": "dconfig-1.0",
        "start_time": index * real_ns,
        "stop_time": (index + 1) * real_ns,
        "real_time": real_ns,
    }


def _json(fields: dict[str, object]) -> bytes:
    return msgspec.json.encode(fields)
