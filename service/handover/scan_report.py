"""A scan as one page of HTML that opens anywhere, without a network: for logbook and users."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np

from service.colours import COLOUR_MAPS
from service.handover.result import Plane, Result
from service.images import Channel, Shades, png, shades

_TITLES = {
    "refined_phase": "Phase, refined by idle time",
    "phase": "Phase",
    "refined_amplitude": "Amplitude, refined by idle time",
    "amplitude": "Amplitude",
    "confidence": "Confidence",
    "agreement": "Agreement of overlapping tiles",
    "coverage": "Coverage",
}
_UNITS = {Channel.PHASE: "rad"}
_UNIT = re.compile(r"(?<!per)_(m|s)$")  # at the end of a name
_LEGEND_COLOURS = 16
_SCALE_BAR_SHARE = 0.25  # of the picture's width at most
_MOST_POSITIONS = 5000
_PATH_SIDE = 1000.0  # of the drawing, in its own units


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture of a mosaic.

    Attributes:
        title: above it.
        image: data URI of a PNG.
        scale_share: length of its scale bar, of its width.
        scale: what the bar says.
        gradient: CSS colours from low to high.
        low, high: values at the ends of the colours.
    """

    title: str
    image: str
    scale_share: float
    scale: str
    gradient: str
    low: str
    high: str


def scan_report(result: Result) -> str:
    """Return a result as a page of HTML that refers to nothing outside itself."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = files("service.handover").joinpath("scan_report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        result=result,
        report=result.report,
        figures=list(_figures(result)),
        path=_path(result),
        tables=_tables(result),
    )


def _figures(result: Result) -> Iterator[Figure]:
    covered = result.planes["coverage"].values > 0
    for name, title in _TITLES.items():
        if name in result.planes and covered.any():
            plane = result.planes[name]
            lit = covered if plane.values.shape == covered.shape else np.ones(plane.values.shape, bool)
            yield _figure(title, plane, lit)


def _figure(title: str, plane: Plane, covered: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Figure:
    seen = shades(plane.values[covered], plane.channel)
    width_m = len(plane.x_m) * float(plane.x_m[1] - plane.x_m[0]) if len(plane.x_m) > 1 else 1e-9
    bar_m = _round_length_m(_SCALE_BAR_SHARE * width_m)
    unit, centre = _UNITS.get(plane.channel, ""), seen.centre_rad or 0.0
    encoded = b64encode(png(plane.values, covered, plane.channel, seen)).decode()
    return Figure(
        title=title,
        image=f"data:image/png;base64,{encoded}",
        scale_share=bar_m / width_m,
        scale=_length(bar_m),
        gradient=_gradient(plane.channel, seen),
        low=f"{centre + seen.low:.3g} {unit}".strip(),
        high=f"{centre + seen.high:.3g} {unit}".strip(),
    )


def _gradient(channel: Channel, seen: Shades) -> str:
    places = np.round(np.linspace(0, 255 * seen.top, _LEGEND_COLOURS)).astype(int)
    return ", ".join("#" + bytes(colour).hex() for colour in COLOUR_MAPS[channel.value][places])


def _round_length_m(most_m: float) -> float:
    """Return the longest 1, 2 or 5 times a power of ten that is not above a length, metres."""
    power = 10.0 ** np.floor(np.log10(most_m))
    return float(max(digit * power for digit in (1, 2, 5) if digit * power <= most_m))


def _length(length_m: float) -> str:
    return f"{length_m * 1e6:g} µm" if length_m >= 1e-6 else f"{length_m * 1e9:g} nm"


def _path(result: Result) -> str:
    """Return the way of the beam as the points of an SVG polyline, in the order of the frames."""
    some = result.positions_m[:: max(1, -(-len(result.positions_m) // _MOST_POSITIONS))]
    if not len(some):
        return ""
    some = some - some.min(axis=0)
    scaled = some * (_PATH_SIDE / max(float(some.max()), 1e-12))
    return " ".join(f"{x:.1f},{y:.1f}" for y, x in scaled.tolist())


def _tables(result: Result) -> dict[str, list[tuple[str, str]]]:
    report, model = result.report, result.model
    return {
        "Frames": _rows(report["ledger"]),
        "The scan": [
            ("started", report["started"]),
            ("finished", report["finished"] or "it had not when this was written"),
            ("took", _took(report)),
            *_rows(report["geometry"]),
        ],
        "Rates": _rows(report["rates"]),
        "Trust": [
            *_rows(report["trust"]),
            *_rows({key: report[key] for key in ("confidence", "agreement", "forward_residual")}),
        ],
        "Model": [
            ("name", model["name"]),
            ("kind", model["kind"]),
            ("sha256", model["onnx_sha256"]),
            ("stitched by", f"ptycholive {result.program_version}"),
        ],
        "Refinement in idle time": _rows(result.refinement or {}),
    }


def _took(report: dict[str, Any]) -> str:
    if not report["finished"]:
        return "not known"
    begun, ended = (datetime.fromisoformat(report[key]) for key in ("started", "finished"))
    return f"{(ended - begun).total_seconds():.1f} s"


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Return plain values as pairs of words; what holds others becomes several rows."""
    rows: list[tuple[str, str]] = []
    for name, value in told.items():
        words = _UNIT.sub(r", \1", name).replace("_", " ")
        if isinstance(value, dict):
            rows += [(f"{words}: {inner}", text) for inner, text in _rows(value)]
        else:
            rows.append((words, _text(value)))
    return rows


def _text(value: object) -> str:
    match value:
        case None:
            return "not known"
        case float():
            return f"{value:.4g}"
        case list():
            return " × ".join(map(_text, value))
        case _:
            return str(value)
