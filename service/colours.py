"""Colour maps that step evenly to the eye, shared by the page and the PNG files.

Each map is a path of a few anchor colours in OKLab (B. Ottosson, "A perceptual color space for image
processing", 2020), walked at constant speed: equal steps of the value are equal steps of perceived
colour. The map of the phase is a closed path, so that +π and −π are one colour; its first half climbs
in lightness from dark to bright and serves alone where the phase spans less than half a turn. The hues
are a circle of one lightness, so that brightness is free to show something else, such as the amplitude.
Greys, light on dark and dark on light, and a circle of blue and yellow are for who prefers them or sees
colours otherwise.
"""

from __future__ import annotations

from math import cos, pi, sin
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from service.messages import Float64

Colours = NDArray[np.uint8]

ENTRIES = 256
_FINE_STEPS = 4096

# Anchors as (lightness, a, b) in OKLab.
_ANCHORS = {
    "amplitude": [
        (0.20, 0.000, -0.020),
        (0.55, -0.008, -0.022),
        (0.80, -0.003, 0.000),
        (0.975, 0.001, 0.020),
    ],
    "phase": [
        (0.28, 0.020, -0.105),
        (0.48, -0.035, -0.110),
        (0.66, -0.100, -0.010),
        (0.82, -0.085, 0.095),
        (0.915, -0.016, 0.085),
        (0.785, 0.072, 0.092),
        (0.62, 0.165, 0.050),
        (0.44, 0.130, -0.055),
    ],
    "agreement": [(0.30, 0.110, -0.050), (0.52, 0.150, 0.060), (0.74, 0.060, 0.120), (0.93, -0.050, 0.055)],
    "coverage": [
        (0.24, -0.010, -0.045),
        (0.50, -0.060, -0.060),
        (0.74, -0.085, 0.005),
        (0.95, -0.030, 0.050),
    ],
    "confidence": [(0.30, 0.100, 0.040), (0.52, 0.100, 0.070), (0.75, 0.030, 0.070), (0.95, -0.020, 0.000)],
    "unwrapped": [(0.22, 0.030, -0.060), (0.48, 0.010, -0.100), (0.72, -0.080, 0.020), (0.95, -0.010, 0.110)],
    "grey": [(0.16, 0.0, 0.0), (0.57, 0.0, 0.0), (0.98, 0.0, 0.0)],
    "ink": [(0.98, 0.0, 0.0), (0.57, 0.0, 0.0), (0.16, 0.0, 0.0)],
    "twilight": [(0.22, 0.000, -0.010), (0.58, -0.020, -0.130), (0.94, 0.000, 0.005), (0.58, 0.020, 0.125)],
    "hue": [(0.76, 0.115 * cos(turn), 0.115 * sin(turn)) for turn in np.linspace(-2, 2 * pi - 2, 16, False)],
}
_CYCLIC = frozenset({"phase", "hue", "twilight"})

_OKLAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

# Catmull & Rom, "A class of local interpolating splines", 1974: powers of t × four points.
_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])


def _encode(oklab: Float64) -> Colours:
    """Convert (..., 3) OKLab to 8-bit sRGB."""
    lms = np.power(oklab @ _OKLAB_TO_LMS.T, 3)
    linear = np.clip(lms @ _LMS_TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * encoded), np.uint8)


def _with_neighbours(anchors: Float64, cyclic: bool) -> Float64:
    """Return the anchors with what a spline needs beyond both ends: round the circle, or straight on."""
    if cyclic:
        return np.concatenate([anchors[-1:], anchors, anchors[:2]])
    return np.concatenate([2 * anchors[:1] - anchors[1:2], anchors, 2 * anchors[-1:] - anchors[-2:-1]])


def _spline(anchors: Float64, cyclic: bool) -> Float64:
    """Return a smooth (Catmull-Rom) curve through the anchors, (steps, 3), closed if cyclic."""
    points = _with_neighbours(anchors, cyclic)
    spans = len(points) - 3
    at = np.linspace(0, spans, _FINE_STEPS + 1)
    span = np.minimum(at.astype(int), spans - 1)
    t = at - span
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    neighbours = points[span[:, None] + np.arange(4)]
    return np.asarray(np.einsum("sp,pk,skc->sc", powers, _CATMULL_ROM, neighbours))


def _constant_speed(curve: Float64, cyclic: bool) -> Float64:
    """Resample a curve to ENTRIES points that are equally far apart along it."""
    walked = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    wanted = np.linspace(0, walked[-1], ENTRIES, endpoint=not cyclic)
    return np.stack([np.interp(wanted, walked, curve[:, k]) for k in range(3)], axis=1)


def _colour_map(name: str) -> Colours:
    cyclic = name in _CYCLIC
    return _encode(_constant_speed(_spline(np.array(_ANCHORS[name]), cyclic), cyclic))


COLOUR_MAPS = MappingProxyType({name: _colour_map(name) for name in _ANCHORS})
"""For each channel, and for the maps that can be chosen instead, a (256, 3) uint8 sRGB table."""
