"""A diffraction pattern as a picture, and what a person wants to know of it."""

from __future__ import annotations

import io
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.colours import COLOUR_MAPS
from service.web.recent import RecentFrame, RecentFrames

_MASKED, _SATURATED = 254, 255
_SHADES = 254
_SIGNS = np.array([[42, 58, 92], [255, 64, 88]], np.uint8)  # of masked and of saturated pixels, sRGB


class PatternFormat(StrEnum):
    """How a diffraction pattern can be downloaded."""

    NPY = "npy"
    PNG = "png"


def describe_frame(frame: RecentFrame, recent: RecentFrames) -> dict[str, Any]:
    """Return number, position, greatest count and sum of a frame, and how many pixels tell nothing."""
    masked, saturated = _signs(frame, recent)
    valid = frame.counts[~masked].astype(np.float64)
    return {
        "index": frame.index,
        "position_m": list(frame.position_m),
        "shape": list(frame.counts.shape),
        "peak": float(valid.max(initial=0.0)),
        "photons": float(valid.sum()),
        "masked": int(masked.sum()),
        "saturated": int(saturated.sum()),
    }


def pattern_npy(frame: RecentFrame) -> bytes:
    """Return the counts as an npy file, (H, W), as the network took them."""
    file = io.BytesIO()
    np.save(file, frame.counts, allow_pickle=False)
    return file.getvalue()


def pattern_png(frame: RecentFrame, recent: RecentFrames) -> bytes:
    """Return a picture: log(1 + counts) from dark to bright, masked pixels blue, saturated ones red."""
    masked, saturated = _signs(frame, recent)
    bright = np.log1p(np.where(masked, 0, frame.counts).astype(np.float64).clip(0))
    entries = np.round((_SHADES - 1) * bright / max(bright.max(), 1e-9)).astype(np.uint8)
    entries[saturated], entries[masked] = _SATURATED, _MASKED
    picture = Image.fromarray(entries)
    picture.putpalette(_palette().tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _signs(frame: RecentFrame, recent: RecentFrames) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    masked: NDArray[np.bool_] = frame.counts >= recent.invalid_counts
    if recent.saturation is None:
        return masked, np.zeros_like(masked)
    return masked, (frame.counts >= recent.saturation) & ~masked


def _palette() -> NDArray[np.uint8]:
    table = COLOUR_MAPS["amplitude"]
    shades = table[np.round(np.linspace(0, len(table) - 1, _SHADES)).astype(int)]
    return np.concatenate([shades, _SIGNS])
