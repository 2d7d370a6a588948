"""The part of the settings that the journey obeys."""

from __future__ import annotations

from service.config import Settings
from service.reconstruct import JourneySettings
from service.wire.pixels import DEFAULT_LIMITS


def journey_settings(settings: Settings) -> JourneySettings:
    """Return sizes and deadlines of a frame's journey."""
    return JourneySettings(
        batch_frames=settings.batch_frames,
        batch_deadline_s=settings.batch_deadline_s,
        join_deadline_s=settings.join_deadline_s,
        join_waiting=settings.join_waiting,
        join_bytes=settings.inbox_mib << 20,
        end_grace_s=settings.end_grace_s,
        idle_end_s=settings.idle_end_s,
        gauge_alignment=settings.gauge_alignment,
        max_frames=DEFAULT_LIMITS.max_scan_frames,
    )
