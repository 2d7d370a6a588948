"""DECTRIS Stream V2: one CBOR map a message.

github.com/dectris/documentation, stream_v2. cbor2 hands the tags it does not know on as `CBORTag`; they are
read in `typed_arrays`, without a hook, so it does not matter that the hook's signature changed in cbor2 6.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from service.errors import MessageError, PixelError
from service.messages import Counts, Event, Float64, Image, Rejected, ScanEnd, ScanStart
from service.wire.fields import (
    Parts,
    decode_positions,
    encode_positions_m,
    items,
    legal_scan_name,
    short,
)
from service.wire.pixels import DEFAULT_LIMITS, Limits, checked_dtype, checked_shape
from service.wire.typed_arrays import TypedArray, write_array

_SELF_DESCRIBED: Final = 55799
_LARGEST_SERIES_ID: Final = 2**64 - 1
_METRES_AN_ANGSTROM: Final = 1e-10
_TIME_BASE_HZ: Final = 50_000_000

Message = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class _Series:
    """What an image of a started series is read with; `dtype` None until the first image tells it."""

    scan: str
    unique_id: object
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any] | None
    channel: str | None


class DectrisV2Decoder:
    """Bytes in, events out; remembers the series that it saw start, by their number."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, channel: str | None = None) -> None:
        """Take the images of `channel`, or of the first channel where None."""
        self._limits = limits
        self._channel = channel
        self._series: OrderedDict[int, _Series] = OrderedDict()

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message.

        Args:
            parts: the ZMQ parts as they came: one.
            received_ns: wall clock when they came, ns since the epoch.

        Raises:
            MessageError: the message does not follow the format; none of it can be attributed.
        """
        message = _decode_map(parts)
        series_id = _whole(message, "series_id", _LARGEST_SERIES_ID)
        match message.get("type"):
            case "start":
                return [self._start(message, series_id)]
            case "image":
                return self._image(message, series_id, received_ns)
            case "end":
                series = self._known(message, series_id)
                return [ScanEnd(series.scan if series else _scan_name(message, series_id))]
            case other:
                raise MessageError(f"type {short(other)} is not start, image or end: is this Stream V2?")

    def _start(self, message: Message, series_id: int) -> ScanStart:
        channel = _channel(message, self._channel)
        try:
            start = _scan_start(message, _scan_name(message, series_id), channel, self._limits)
            dtype = start.dtype if "image_dtype" in message else None
        except PixelError as error:
            raise MessageError(f"start of series {series_id}: {error}") from error
        unique_id = message.get("series_unique_id")
        self._remember(series_id, _Series(start.scan, unique_id, start.frame_shape, dtype, channel))
        return start

    def _remember(self, series_id: int, series: _Series) -> None:
        self._series[series_id] = series
        self._series.move_to_end(series_id)
        if len(self._series) > self._limits.max_known_scans:
            self._series.popitem(last=False)

    def _image(self, message: Message, series_id: int, received_ns: int) -> list[Event]:
        index = _whole(message, "image_id", self._limits.max_scan_frames - 1)
        series = self._known(message, series_id)
        if series is None:
            return self._image_without_start(message, series_id, index, received_ns)
        try:
            packed = _frame_of(message, series)
            counts = packed.unpack(self._limits)
        except PixelError as error:
            return [Rejected(series.scan, index, "undecodable", str(error))]
        if series.dtype is None:
            self._series[series_id] = replace(series, dtype=packed.dtype)
        return [Image(series.scan, index, counts, received_ns)]

    def _image_without_start(
        self, message: Message, series_id: int, index: int, received_ns: int
    ) -> list[Event]:
        """Begin a series whose start was missed with what its image tells."""
        scan = _scan_name(message, series_id)
        try:
            packed = _packed(message, self._channel)
            counts = packed.unpack(self._limits)
        except PixelError as error:
            detail = f"series {series_id} never started here, and its image cannot be read: {error}"
            return [Rejected(scan, index, "no_header", detail)]
        unique_id = message.get("series_unique_id")
        self._remember(series_id, _Series(scan, unique_id, packed.shape, packed.dtype, self._channel))
        start = ScanStart(scan, packed.shape, counts.dtype, assumed=_assumed(packed, index))
        return [start, Image(scan, index, counts, received_ns)]

    def _known(self, message: Message, series_id: int) -> _Series | None:
        """Return the series of a message; a unique id that differs means that the numbers began anew."""
        series = self._series.get(series_id)
        if series is not None and message.get("series_unique_id", series.unique_id) != series.unique_id:
            return None
        return series


def _decode_map(parts: Parts) -> Message:
    if len(parts) != 1:
        raise MessageError(f"a Stream V2 message has one part, this one {len(parts)}: is the format legacy?")
    try:
        message = cbor2.loads(bytes(parts[0]))
    except (cbor2.CBORDecodeError, ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise MessageError(f"not a CBOR message: {error}") from error
    if not isinstance(message, Mapping):
        raise MessageError("the CBOR message is not a map: is this Stream V2?")
    return message


def _scan_start(message: Message, scan: str, channel: str | None, limits: Limits) -> ScanStart:
    height, width = message.get("image_size_y"), message.get("image_size_x")
    frame_shape = checked_shape((height, width), limits)  # type: ignore[arg-type]  # it checks the types
    user_data = message.get("user_data")
    told = user_data if isinstance(user_data, Mapping) else {}
    return ScanStart(
        scan=scan,
        frame_shape=frame_shape,
        dtype=_image_dtype(message),
        frames=_expected_frames(message, limits),
        wavelength_m=_scaled(_positive(message, "incident_wavelength"), _METRES_AN_ANGSTROM),
        distance_m=_distance_m(message),
        detector_pixel_m=_positive(message, "pixel_size_x"),
        object_pixel_m=_positive(told, "object_pixel_m"),
        saturation=_positive(message, "saturation_value"),
        mask=_mask(message, channel, frame_shape, limits),
        positions_m=_told_positions(told),
    )


def _scan_name(message: Message, series_id: int) -> str:
    unique_id = message.get("series_unique_id")
    if isinstance(unique_id, str) and legal_scan_name(unique_id):
        return unique_id
    return _numbered(series_id)


def _numbered(series_id: int) -> str:
    return f"series-{series_id}"


def _channel(message: Message, wanted: str | None) -> str | None:
    """Return the channel to take: the wanted one, else the first the start message names."""
    channels = message.get("channels")
    names = [name for name in items(channels) if isinstance(name, str)]
    if wanted is not None and names and wanted not in names:
        raise MessageError(f"channel {wanted!r} is not among {short(names)}: is its threshold enabled?")
    return wanted or next(iter(names), None)


def _image_dtype(message: Message) -> np.dtype[Any]:
    """Return the pixel type told; else the smallest that holds the saturation value, as devices choose it."""
    told = message.get("image_dtype")
    if told is None:
        return np.min_scalar_type(int(min(_positive(message, "saturation_value") or 2**32 - 1, 2**32 - 1)))
    if not isinstance(told, str) or told not in ("uint8", "uint16", "uint32"):
        raise PixelError(f"image_dtype {short(told)} is not uint8, uint16 or uint32")
    return checked_dtype(np.dtype(told))


def _expected_frames(message: Message, limits: Limits) -> int | None:
    """Return the images of the series; None where not told, or armed to run on and on."""
    told = message.get("number_of_images")
    return told if type(told) is int and 0 < told <= limits.max_scan_frames else None


def _distance_m(message: Message) -> float | None:
    """Return the sample-detector distance: along the beam, the third part of the translation."""
    translation = message.get("detector_translation")
    parts = items(translation)
    told = {"z": abs(parts[2])} if len(parts) == 3 and isinstance(parts[2], int | float) else {}
    return _positive(message, "detector_distance") or _positive(told, "z")


def _mask(
    message: Message, channel: str | None, frame_shape: tuple[int, int], limits: Limits
) -> NDArray[np.bool_] | None:
    """Return True where the detector flags a pixel; None where no mask array is told.

    Simulators put a few bytes in its place, which tell nothing.
    """
    masks = message.get("pixel_mask")
    told = masks.get(channel) if isinstance(masks, Mapping) else None
    if not isinstance(told, cbor2.CBORTag):
        return None
    packed = TypedArray.read(told)
    if packed.shape != frame_shape:
        raise PixelError(
            f"pixel mask of {short(packed.shape)} for frames of {short(frame_shape)}: is a region set?"
        )
    mask: NDArray[np.bool_] = packed.unpack(limits) != 0
    return mask


def _told_positions(told: Message) -> Float64 | None:
    """Return the planned positions in `user_data`; what else a user put there is not ours to judge."""
    blob = told.get("positions_m")
    if not isinstance(blob, bytes) or not blob:
        return None
    try:
        return decode_positions(blob)
    except MessageError:
        return None


def _frame_of(message: Message, series: _Series) -> TypedArray:
    packed = _packed(message, series.channel)
    if packed.shape != series.frame_shape:
        raise PixelError(f"image of {short(packed.shape)} in a series of {short(series.frame_shape)}")
    if series.dtype is not None and packed.dtype.itemsize != series.dtype.itemsize:
        raise PixelError(f"image of {packed.dtype} in a series of {series.dtype}")
    return packed


def _packed(message: Message, wanted: str | None) -> TypedArray:
    """Return the pixels of the wanted channel, of the first where None."""
    channels = message.get("data")
    if not isinstance(channels, Mapping) or not channels:
        raise PixelError("the image holds no channel")
    channel = next(iter(channels)) if wanted is None else wanted
    if channel not in channels:
        raise PixelError(f"the image holds {short(list(channels))}, not channel {channel!r}")
    return TypedArray.read(channels[channel])


def _assumed(packed: TypedArray, index: int) -> str:
    height, width = packed.shape
    return (
        f"frames of {height} × {width} {packed.dtype.name} as image {index} has, no mask and no geometry; "
        "was the service up before the detector was armed?"
    )


def _whole(message: Message, key: str, largest: int) -> int:
    value = message.get(key)
    if type(value) is not int or not 0 <= value <= largest:
        raise MessageError(f"{key} {short(value)} is not a number from 0 to {largest}: is this Stream V2?")
    return value


def _positive(message: Message, key: str) -> float | None:
    """Return a positive finite number, None where it is not told: devices send 0 for what nobody set."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        return None
    return float(value)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


@dataclass(frozen=True, slots=True)
class SentSeries:
    """What the messages of one series, as the device sends them, have in common.

    Attributes:
        start: the scan; its name becomes the unique id. Positions and object pixel go into `user_data`.
        series_id: the device's number of the series.
        armed: when the detector was armed.
        frame_time_s: from one image to the next.
        channel: name of the only channel.
    """

    start: ScanStart
    series_id: int
    armed: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    frame_time_s: float = 1e-3
    channel: str = "threshold_1"


def encode_start(series: SentSeries) -> list[bytes]:
    """Return the parts of a start message."""
    start = series.start
    fields: dict[str, object] = {
        "type": "start",
        "series_id": series.series_id,
        "series_unique_id": start.scan,
        "arm_date": series.armed,
        "channels": [series.channel],
        "frame_time": series.frame_time_s,
        "image_dtype": start.dtype.name,
        "image_size_x": start.frame_shape[1],
        "image_size_y": start.frame_shape[0],
        **_told_fields(series),
    }
    return _encode(fields)


def encode_image(series: SentSeries, index: int, counts: Counts, encoding: str) -> list[bytes]:
    """Return the parts of an image message.

    Args:
        series: the series it belongs to.
        index: frame number, from 0.
        counts: (H, W) unsigned integers.
        encoding: "raw", "lz4" or "bslz4".

    Raises:
        ConfigError: the encoding needs a package that is not installed.
    """
    began_s = index * series.frame_time_s
    fields = {
        "type": "image",
        "series_id": series.series_id,
        "series_unique_id": series.start.scan,
        "image_id": index,
        "series_date": series.armed,
        "start_time": _ticks(began_s),
        "stop_time": _ticks(began_s + series.frame_time_s),
        "real_time": _ticks(series.frame_time_s),
        "data": {series.channel: write_array(counts, encoding)},
    }
    return _encode(fields)


def encode_end(series: SentSeries) -> list[bytes]:
    """Return the parts of an end message."""
    return _encode({"type": "end", "series_id": series.series_id, "series_unique_id": series.start.scan})


def _told_fields(series: SentSeries) -> dict[str, object]:
    """Return the fields of a start message that may be unknown, without those that are."""
    start = series.start
    fields = {
        "number_of_images": start.frames,
        "incident_wavelength": _scaled(start.wavelength_m, 1 / _METRES_AN_ANGSTROM),
        "detector_translation": None if start.distance_m is None else [0.0, 0.0, start.distance_m],
        "pixel_size_x": start.detector_pixel_m,
        "pixel_size_y": start.detector_pixel_m,
        "saturation_value": None if start.saturation is None else int(start.saturation),
        "pixel_mask": None if start.mask is None else {series.channel: _mask_array(start.mask)},
        "user_data": _user_data(start),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _mask_array(mask: NDArray[np.bool_]) -> cbor2.CBORTag:
    return write_array(mask.astype("<u4"), "raw")


def _user_data(start: ScanStart) -> dict[str, object] | None:
    positions_m = None if start.positions_m is None else encode_positions_m(start.positions_m)
    told = {"positions_m": positions_m, "object_pixel_m": start.object_pixel_m}
    return {key: value for key, value in told.items() if value is not None} or None


def _ticks(seconds: float) -> list[int]:
    return [round(seconds * _TIME_BASE_HZ), _TIME_BASE_HZ]


def _encode(fields: Mapping[str, object]) -> list[bytes]:
    return [cbor2.dumps(cbor2.CBORTag(_SELF_DESCRIBED, dict(fields)))]
