"""What may be wrong with the scan on the page, as a row of lamps: each is calm, alarmed, or knows nothing.

Pure: it reads what the service reports.
"""

from __future__ import annotations

from typing import Any

from service.web.recent import RecentFrames

_FEW_WAITING = 64  # frames whose positions are on their way
_UNKNOWN_MODEL = ("unknown", "the bundle does not say what it was trained for, or too few frames came")
_MODEL = {
    "good": ("calm", "the frames are such as the model was trained for"),
    "exposure": ("alarm", "the exposure is out of the range that the model was trained for"),
    "residual": ("alarm", "the model does not explain the frames: another probe, sample or orientation"),
}


def lamps(
    report: dict[str, Any] | None, queues: dict[str, int], recent: RecentFrames | None
) -> list[dict[str, str]]:
    """Return the lamps in order: `about`, `state` ("calm", "alarm" or "unknown") and `line`, a sentence.

    Args:
        report: of the scan that is shown, None where there is none.
        queues: frames waiting, by queue.
        recent: its last frames, None where they are not kept any more.
    """
    if report is None:
        return []
    told = {
        "frames": _frames(report),
        "positions": _positions(report, queues),
        "saturation": _saturation(recent),
        "model": _MODEL.get((report.get("trust") or {}).get("state", ""), _UNKNOWN_MODEL),
    }
    return [{"about": about, "state": state, "line": line} for about, (state, line) in told.items()]


def _frames(report: dict[str, Any]) -> tuple[str, str]:
    missing = report.get("missing") or []
    if not missing:
        return "calm", "no frame is missing"
    count = sum(last - first + 1 for first, last in missing)
    verb = "are missing so far" if report.get("finished") is None else "never arrived"
    ranges = ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in missing)
    return "alarm", f"{count} frame{'' if count == 1 else 's'} {verb}: {ranges}"


def _positions(report: dict[str, Any], queues: dict[str, int]) -> tuple[str, str]:
    lost = report["ledger"]["dropped"].get("no_position", 0)
    if lost:
        return "alarm", f"{lost} frames were dropped, as their positions never came"
    waiting = queues.get("join", 0) if report.get("finished") is None else 0
    joined = report["ledger"]["joined"]
    if waiting > max(_FEW_WAITING, joined // 10):
        return "alarm", f"{waiting} frames wait for their positions"
    return "calm", "every frame has its position"


def _saturation(recent: RecentFrames | None) -> tuple[str, str]:
    if recent is None or recent.saturation is None:
        return "unknown", "the stream does not say where the detector saturates"
    saturated, seen = recent.saturated_frames, recent.seen_frames
    if not saturated:
        return "calm", f"no pixel reached {recent.saturation:g} counts in {seen} frames"
    return "alarm", f"{saturated} of {seen} frames hold pixels of {recent.saturation:g} counts or more"
