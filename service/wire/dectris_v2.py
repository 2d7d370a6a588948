"""DECTRIS Stream V2: one CBOR map a message; a sender may put several into one, each as a part.

github.com/dectris/documentation, stream_v2. cbor2 hands the tags it does not know on as `CBORTag`; they are
read in `typed_arrays`, without a hook, so it does not matter that the hook's signature changed in cbor2 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from service.errors import MessageError, PixelError
from service.messages import Blob, Counts, Event, Float64, ScanEnd, ScanStart
from service.wire.cbor_look import look_through
from service.wire.dectris_v2_images import KnownImages, of_channel
from service.wire.fields import (
    METRES_AN_ANGSTROM,
    Message,
    Parts,
    beam_px,
    decode_positions,
    distance_m,
    encode_positions_m,
    items,
    legal_scan_name,
    positive,
    scaled,
    short,
)
from service.wire.json_parts import told_name
from service.wire.packed import PackedFrame
from service.wire.pixels import DEFAULT_LIMITS, Limits, checked_dtype, checked_shape
from service.wire.series import Series, SeriesBook
from service.wire.typed_arrays import read_array, write_array

_SELF_DESCRIBED: Final = 55799
_LARGEST_SERIES_ID: Final = 2**64 - 1
_TIME_BASE_HZ: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class _Series(Series):
    """A series, its unique id, and the channel of it that is taken."""

    unique_id: object = None
    channel: str | None = None


class DectrisV2Decoder:
    """Bytes in, events out; remembers the series that it saw start, by their number."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS, channel: str | None = None) -> None:
        """Take the images of `channel`, or of the first channel where None."""
        self._limits = limits
        self._channel = channel
        self._images = KnownImages()
        self._series: SeriesBook[_Series] = SeriesBook(limits)

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message.

        Args:
            parts: the ZMQ parts as they came: one, or several where a sender puts all that waits into one.
            received_ns: wall clock when they came, ns since the epoch.

        Raises:
            MessageError: the message does not follow the format; none of it can be attributed.
        """
        if not parts:
            raise MessageError("a message without parts")
        events: list[Event] = []
        for part in parts:
            events += self._decode(part, received_ns)
        return events

    def _decode(self, part: Blob, received_ns: int) -> list[Event]:
        if (known := self._images.read(part)) is not None:
            return self._image(known.message, known.index, known.frame, received_ns)
        items = look_through(content := bytes(part), self._limits)
        message = _decode_map(content)
        series_id = _series_id(message)
        match message.get("type"):
            case "start":
                return [self._start(message, series_id)]
            case "image":
                self._images.learn(content, items, message)
                frame = partial(_packed, message.get("data"))
                return self._image(message, message.get("image_id"), frame, received_ns)
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
        series = _Series(start.scan, start.frame_shape, dtype, unique_id=unique_id, channel=channel)
        self._series.remember(series_id, series)
        return start

    def _image(
        self, message: Message, told: object, frame: Callable[[str | None], PackedFrame], received_ns: int
    ) -> list[Event]:
        index = _whole(told, "image_id", self._limits.max_scan_frames - 1)
        series_id = _series_id(message)
        series = self._known(message, series_id) or self._missed(message, series_id)
        return self._series.image(series_id, series, index, lambda: frame(series.channel), received_ns)

    def _missed(self, message: Message, series_id: int) -> _Series:
        """Return a series of which nothing has been heard so far."""
        unique_id = message.get("series_unique_id")
        return _Series(_scan_name(message, series_id), unique_id=unique_id, channel=self._channel)

    def _known(self, message: Message, series_id: int) -> _Series | None:
        """Return the series of a message; a unique id that differs means that the numbers began anew."""
        series = self._series.get(series_id)
        if series is not None and message.get("series_unique_id", series.unique_id) != series.unique_id:
            return None
        return series


def _decode_map(content: bytes) -> Message:
    try:
        message = cbor2.loads(content)
    except (cbor2.CBORDecodeError, ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise MessageError(f"not a CBOR message, is the format legacy? {error}") from error
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
        wavelength_m=scaled(positive(message, "incident_wavelength"), METRES_AN_ANGSTROM),
        distance_m=distance_m(message),
        detector_pixel_m=positive(message, "pixel_size_x"),
        object_pixel_m=positive(told, "object_pixel_m"),
        saturation=positive(message, "saturation_value"),
        mask=_mask(message, channel, frame_shape, limits),
        positions_m=_told_positions(told),
        beam_px=beam_px(message),
    )


def _scan_name(message: Message, series_id: int) -> str:
    told = _told_name(message)
    if told is not None:
        return told
    unique_id = message.get("series_unique_id")
    if isinstance(unique_id, str) and legal_scan_name(unique_id):
        return unique_id
    return _numbered(series_id)


def _told_name(message: Message) -> str | None:
    """Return the name that a user had the detector send along, in a map or in JSON; None without one."""
    match message.get("user_data"):
        case {"scan": str() as name} if legal_scan_name(name):
            return name
        case str() as text:
            return told_name(text.encode())
        case _:
            return None


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
        return np.min_scalar_type(int(min(positive(message, "saturation_value") or 2**32 - 1, 2**32 - 1)))
    if not isinstance(told, str) or told not in ("uint8", "uint16", "uint32"):
        raise PixelError(f"image_dtype {short(told)} is not uint8, uint16 or uint32")
    return checked_dtype(np.dtype(told))


def _expected_frames(message: Message, limits: Limits) -> int | None:
    """Return the images of the series; None where not told, or armed to run on and on."""
    told = message.get("number_of_images")
    return told if type(told) is int and 0 < told <= limits.max_scan_frames else None


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
    packed = read_array(told)
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


def _packed(channels: object, wanted: str | None) -> PackedFrame:
    """Return the pixels of the wanted channel as they lie in a decoded message."""
    if not isinstance(channels, Mapping) or not channels:
        raise PixelError("the image holds no channel")
    return read_array(of_channel(channels, wanted))


def _series_id(message: Message) -> int:
    return _whole(message.get("series_id"), "series_id", _LARGEST_SERIES_ID)


def _whole(value: object, key: str, largest: int) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise MessageError(f"{key} {short(value)} is not a number from 0 to {largest}: is this Stream V2?")
    return value


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
    beam_y, beam_x = start.beam_px or (None, None)
    fields = {
        "beam_center_x": beam_x,
        "beam_center_y": beam_y,
        "number_of_images": start.frames,
        "incident_wavelength": scaled(start.wavelength_m, 1 / METRES_AN_ANGSTROM),
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
