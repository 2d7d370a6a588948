"""The mosaic as a file: npy and TIFF with the numbers, PNG with the colours of the page."""

from __future__ import annotations

import io
import math
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from service.colours import COLOUR_MAPS
from service.messages import Float32, Float64
from service.mosaic import Bounds, Mosaic
from service.unwrap import unwrapped

_SAMPLED_PIXELS = 1_000_000
_PERCENTILES = (1, 99)
_NEARLY_FULL_TURN_RAD = 1.6 * math.pi
_LOW_AGREEMENT = 0.8  # above, all is well and shall look so


class Channel(StrEnum):
    """What the mosaic says of each pixel."""

    AMPLITUDE = "amplitude"
    PHASE = "phase"
    AGREEMENT = "agreement"
    COVERAGE = "coverage"
    CONFIDENCE = "confidence"
    UNWRAPPED = "unwrapped"


class FileFormat(StrEnum):
    """How a channel can be downloaded."""

    NPY = "npy"
    PNG = "png"
    TIFF = "tiff"


MEDIA_TYPES = {
    FileFormat.NPY: "application/octet-stream",
    FileFormat.PNG: "image/png",
    FileFormat.TIFF: "image/tiff",
}


def encode(mosaic: Mosaic, channel: Channel, file_format: FileFormat) -> bytes:
    """Return one channel of the mosaic as the bytes of a file.

    npy and TIFF hold float32 (phase in radians), rows downward; the PNG holds 8-bit colours, transparent
    where the beam was not.
    """
    bounds, plane = _image(mosaic, channel)
    if file_format is FileFormat.NPY:
        return npy(plane)
    if file_format is FileFormat.TIFF:
        return _tiff(plane, channel, bounds, mosaic.object_pixel_m)
    return _png(plane, mosaic.image(Channel.COVERAGE.value, bounds) > 0, channel)


def _image(mosaic: Mosaic, channel: Channel) -> tuple[Bounds, Float32]:
    if channel is not Channel.UNWRAPPED:
        bounds = mosaic.bounds()
        return bounds, mosaic.image(channel.value, bounds)
    found = unwrapped(mosaic)
    return found.bounds, found.at_full_size(mosaic.image(Channel.PHASE.value, found.bounds))


def npy(plane: Float32) -> bytes:
    """Return a plane as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, plane, allow_pickle=False)
    return file.getvalue()


def _tiff(plane: Float32, channel: Channel, bounds: Bounds, object_pixel_m: float) -> bytes:
    file = io.BytesIO()
    pixels_per_cm = 1e-2 / object_pixel_m
    notes: dict[str, Any] = {
        "channel": channel.value,
        "unit": "rad" if channel in (Channel.PHASE, Channel.UNWRAPPED) else "1",
        "object_pixel_m": object_pixel_m,
        "origin_m": [edge * object_pixel_m for edge in bounds[:2]],
    }
    tifffile.imwrite(
        file,
        plane,
        photometric="minisblack",
        resolution=(pixels_per_cm, pixels_per_cm),
        resolutionunit="CENTIMETER",
        metadata=notes,
    )
    return file.getvalue()


def _png(plane: Float32, covered: NDArray[np.bool_], channel: Channel) -> bytes:
    return png(plane, covered, channel, shades(plane[covered], channel))


def png(plane: Float32, covered: NDArray[np.bool_], channel: Channel, seen: Shades) -> bytes:
    """Paint a plane (H, W) with 255 colours of the channel's map; palette entry 0 is "no data".

    Args:
        plane: the channel's values.
        covered: (H, W), where there are any.
        channel: whose colours are taken.
        seen: `shades` of the values.
    """
    share = np.zeros(plane.shape)
    share[covered] = seen.share(plane[covered])
    entries = np.where(covered, 1 + np.round(254 * share), 0).astype(np.uint8)
    table = COLOUR_MAPS[channel.value][np.round(np.linspace(0, 255, 255)).astype(int)]
    picture = Image.fromarray(entries)
    picture.putpalette(bytes(3) + table.tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG", transparency=0)
    return file.getvalue()


class Shades(NamedTuple):
    """How values become places in a colour map.

    Attributes:
        low, high: values that take the first and the last colour that is used.
        centre_rad: of a phase, the angle that it is seen from, to which low and high are relative.
        top: place of the last colour in the map, 0..1.
    """

    low: float
    high: float
    centre_rad: float | None = None
    top: float = 1.0

    def share(self, values: Float32) -> Float64:
        """Return the place of each value in the channel's colours, 0..1."""
        seen = values if self.centre_rad is None else np.angle(np.exp(1j * (values - self.centre_rad)))
        return np.asarray(self.top * np.clip((seen - self.low) / (self.high - self.low), 0, 1))


def shades(values: Float32, channel: Channel) -> Shades:
    """Return how a channel's values are shown so that all but the extreme ones differ."""
    if not values.size:
        return Shades(0.0, 1.0)
    if channel is Channel.PHASE:
        return _phase_shades(values)
    low, high = _window(values)
    if channel in (Channel.AGREEMENT, Channel.CONFIDENCE):
        low, high = min(low, _LOW_AGREEMENT), 1.0
    return Shades(0.0 if channel is Channel.COVERAGE else low, high)


def _phase_shades(phase_rad: Float32) -> Shades:
    """Return how phases are seen from their mean.

    A window of less than half a turn takes the half of the circle that climbs from dark to bright.
    """
    phasor = np.exp(1j * phase_rad.astype(np.float64))
    centre_rad = float(np.angle(phasor.mean()))
    low, high = _window(np.angle(phasor * np.exp(-1j * centre_rad)))
    if high - low > _NEARLY_FULL_TURN_RAD:
        low, high = -math.pi, math.pi
    return Shades(low, high, centre_rad, top=(high - low) / min(2 * (high - low), 2 * math.pi))


def _window(values: Float32 | Float64) -> tuple[float, float]:
    sample = values[:: max(1, len(values) // _SAMPLED_PIXELS)]
    low, high = np.percentile(sample, _PERCENTILES)
    return float(low), float(max(high, low + 1e-6))
