"""The curve of latency against load as an SVG, for the documents."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, log10
from typing import Any, Final

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 360, 70, 20, 20, 50
_COLOURS: Final = {"p50_s": "#1f77b4", "p99_s": "#d62728"}
_NAMES: Final = {"p50_s": "median", "p99_s": "99 % of the frames are faster"}

Scale = Callable[[float], float]


def curve_svg(curve: dict[str, Any]) -> str:
    """Return the picture of what `load_curve` has found."""
    points = curve["points"]
    decades = _decades([point[key] for point in points for key in _COLOURS])
    x = _scale(0.0, max(point["load"] for point in points), _LEFT, _WIDTH - _RIGHT)
    y = _scale(decades[0], decades[-1], _HEIGHT - _BOTTOM, _TOP)
    drawn = [_frame(points, decades, x, y)]
    for row, (key, colour) in enumerate(_COLOURS.items()):
        places = " ".join(f"{x(point['load']):.1f},{y(log10(point[key])):.1f}" for point in points)
        drawn.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(_text(_LEFT + 10, _TOP + 16 + 18 * row, _NAMES[key], "start", colour))
    height_px = y(log10(2 * curve["batch_s"]))
    drawn.append(_line(_LEFT, height_px, _WIDTH - _RIGHT, height_px, "#555555", "6 4"))
    drawn.append(_text(_WIDTH - _RIGHT, height_px - 6, "two full batches", "end", "#555555"))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    return "\n".join([opened, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"])


def _frame(points: list[dict[str, float]], decades: range, x: Scale, y: Scale) -> str:
    """Return the axes with their marks."""
    below_px = _HEIGHT - _BOTTOM + 18
    marks = [_text(x(point["load"]), below_px, f"{point['load']:.0%}", "middle") for point in points]
    for decade in decades:
        marks.append(_line(_LEFT, y(decade), _WIDTH - _RIGHT, y(decade), "#dddddd"))
        marks.append(_text(_LEFT - 8, y(decade) + 4, f"{10.0 ** (decade + 3):g} ms", "end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    marks.append(_text(middle, _HEIGHT - 10, "frames a second, of the service's own rate", "middle"))
    return "\n".join(marks)


def _decades(seconds: list[float]) -> range:
    """Return the powers of ten that enclose all."""
    return range(floor(log10(min(seconds))), ceil(log10(max(seconds))) + 1)


def _scale(low: float, high: float, begin_px: float, end_px: float) -> Scale:
    return lambda value: begin_px + (value - low) / (high - low) * (end_px - begin_px)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "none") -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-dasharray="{dashes}"/>'


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
