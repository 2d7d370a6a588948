"""The part of the settings that the door obeys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from model.orientation import Orientation
from service.config import Settings
from service.door import DoorSettings
from service.mask_file import read_mask

Number = TypeVar("Number", int, float)


def door_settings(settings: Settings) -> DoorSettings:
    """Return what the operator says of the detector; reads the mask's file.

    Raises:
        ConfigError: that file is not there, or holds no mask.
    """
    return replace(
        unturned(settings),
        orientation=Orientation.of_setting(settings.orientation),
        axes=Orientation.of_axes(settings.positions_axes),
    )


def unturned(settings: Settings) -> DoorSettings:
    """Return the same, but for orientation and axes: frames and positions stay turned as they are sent.

    Raises:
        ConfigError: the mask's file is not there, or holds no mask.
    """
    crop, beam = settings.crop, settings.beam_centre
    return DoorSettings(
        binning=settings.bin,
        crop=None if crop is None else _pair(crop, int),
        beam_px=None if beam is None else _pair(beam, float),
        mask=None if settings.mask is None else read_mask(Path(settings.mask)),
    )


def _pair(text: str, kind: Callable[[str], Number]) -> tuple[Number, Number]:
    first, second = text.split(",")
    return kind(first), kind(second)
