"""The part of the settings that recording obeys."""

from __future__ import annotations

from pathlib import Path

from service.config import Settings
from service.recording.recorder import RecorderSettings


def recorder_settings(settings: Settings) -> RecorderSettings | None:
    """Return where scans are recorded, None where they are not."""
    if settings.record is None:
        return None
    origin = {"images": settings.images, "images_format": settings.images_format}
    if settings.positions is not None:
        origin["positions"] = settings.positions
    return RecorderSettings(
        Path(settings.record), settings.end_grace_s, settings.idle_end_s, tuple(origin.items())
    )
