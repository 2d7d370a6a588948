"""Pictures of a report as data URIs: images on a dark plate, charts for a light and for a dark page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]

_PLATE_GROUND = "#14171c"  # of report.html.j2; images are files of their own, too
_PAGE_INCHES = 11.0
_CELL_INCHES = 3.7  # the widest that one image gets
_CHART_INCHES = (6.2, 3.9)
_NICE = (1, 2, 5)  # a scale bar is one of these times a power of ten
_LOW, _HIGH = 1, 99  # percentiles that a colour scale spans
_SEEN_FROM = 1e-12  # flatter than this, an image has no contrast to scale


class Theme(NamedTuple):
    """Colours of a picture's text and lines."""

    ink: str
    lines: tuple[str, ...]


PLATE = Theme("#d5dae1", ("#6ea8fe", "#ffb454", "#7ee0b0", "#ff8f8f", "#c9a5ff", "#8fd8e8"))
LIGHT = Theme("#353b43", ("#1f5fd0", "#c25e00", "#16794c", "#b42318", "#7540c0", "#0f7490"))
DARK = PLATE


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One image with its own colour scale.

    Attributes:
        title: above it.
        image: (H, W).
        colours: matplotlib's name of the map.
        limits: of the colour scale.
        unit: at the colour bar.
    """

    title: str
    image: Image
    colours: str
    limits: tuple[float, float]
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line of a chart; with a marker (matplotlib's word) at each of its points."""

    name: str
    x: Image
    y: Image
    dashed: bool = False
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What stands around the curves.

    Attributes:
        x, y: of the axes, with units.
        logarithmic: both axes.
        logarithmic_x: that axis alone.
        bands: x where bands part, and what each band is called.
        y_limits: None: as the curves need.
    """

    x: str
    y: str
    logarithmic: bool = False
    logarithmic_x: bool = False
    bands: tuple[Sequence[float], Sequence[str]] = ((), ())
    y_limits: tuple[float, float] | None = None


class Themed(NamedTuple):
    """A chart for a light page and for a dark one, as data URIs."""

    light: str
    dark: str


def spread(image: Image) -> tuple[float, float]:
    """Return limits that span nearly all values; wider by a little where the image is flat."""
    low, high = np.percentile(image, (_LOW, _HIGH))
    slack = 0.0 if high - low > _SEEN_FROM else 0.5
    return float(low - slack), float(high + slack)


def symmetric_spread(error: Image) -> tuple[float, float]:
    """Return limits ±e that span nearly all errors."""
    reach = float(np.percentile(np.abs(error), _HIGH))
    reach = reach if reach > _SEEN_FROM else 0.5
    return -reach, reach


def phase_scale(phase_rad: Image) -> tuple[str, tuple[float, float]]:
    """Return colour map and limits for a phase: cyclic over the circle where the phase fills it.

    A phase that spans less than half a turn gets a sequential map over its own span: a part of a cyclic map
    would give two different phases one colour.
    """
    low, high = spread(phase_rad)
    return ("twilight", (-np.pi, np.pi)) if high - low > np.pi else ("viridis", (low, high))


def scale_bar_m(width_m: float) -> float:
    """Return a round length, metres: the longest of 1, 2, 5 · 10ⁿ that is at most a third of the width."""
    power = 10.0 ** np.floor(np.log10(width_m / 3))
    return float(power * max(n for n in _NICE if n * power <= width_m / 3))


def length_in_words(length_m: float) -> str:
    """Return a length in µm, or in nm where that is shorter to read."""
    return f"{length_m * 1e6:g} µm" if length_m >= 1e-6 else f"{length_m * 1e9:g} nm"


def image_row(panels: Sequence[Panel], pixel_m: float | None = None) -> str:
    """Draw images beside each other, each with its colour bar; a scale bar where the pixel is known.

    Returns:
        Data URI of a PNG on the plate's colours.
    """
    return image_grid([panels], pixel_m)


def image_grid(rows: Sequence[Sequence[Panel]], pixel_m: float | None = None) -> str:
    """Draw rows of images of about one shape; a data URI of a PNG."""
    columns = max(len(row) for row in rows)
    height, width = rows[0][0].image.shape
    cell = min(_PAGE_INCHES / columns, _CELL_INCHES)
    size = (columns * cell, len(rows) * (cell * 0.8 * height / width + 0.45))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, line in zip(rows, axes, strict=True):
            for panel, place in zip(row, line, strict=False):
                _draw_panel(figure, place, panel, pixel_m)
            for place in line[len(row) :]:
                place.set_axis_off()

    return _rendered(draw, size, PLATE, "png")


def curves(lines: Sequence[Curve], chart: Chart) -> Themed:
    """Draw curves over one axis."""

    def draw(axes: Axes, theme: Theme) -> None:
        _draw_bands(axes, chart, theme)
        for line, colour in zip(lines, cycle(theme.lines), strict=False):
            style = "--" if line.dashed else "-"
            axes.plot(line.x, line.y, style, color=colour, label=line.name, linewidth=1.8, marker=line.marker)
        axes.legend(frameon=False)

    return _chart(draw, chart)


def histogram(values: Image, chart: Chart, marks: dict[str, float]) -> Themed:
    """Draw how often each value occurs, with a vertical line at each mark."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.hist(values, bins="auto", color=theme.lines[0], alpha=0.6)
        for (name, x), colour in zip(marks.items(), theme.lines[1:], strict=False):
            axes.axvline(x, color=colour, linewidth=1.8, label=f"{name} {x:.3g}")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return _chart(draw, chart)


def scatter(x: Image, y: Image, chart: Chart) -> Themed:
    """Draw a dot a pair (x, y)."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.scatter(x, y, s=9, color=theme.lines[0], alpha=0.55, linewidths=0)

    return _chart(draw, chart)


def _chart(draw: Callable[[Axes, Theme], None], chart: Chart) -> Themed:
    def paint(theme: Theme) -> str:
        def on(figure: Figure) -> None:
            axes = figure.subplots()
            draw(axes, theme)
            _dress(axes, chart)

        return _rendered(on, _CHART_INCHES, theme, "svg")

    return Themed(paint(LIGHT), paint(DARK))


def _dress(axes: Axes, chart: Chart) -> None:
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.logarithmic or chart.logarithmic_x:
        axes.set_xscale("log")
    if chart.logarithmic:
        axes.set_yscale("log")
    if chart.y_limits:
        axes.set_ylim(*chart.y_limits)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bands(axes: Axes, chart: Chart, theme: Theme) -> None:
    edges, names = chart.bands
    for edge in edges[1:-1]:
        axes.axvline(edge, color=theme.ink, linewidth=0.8, alpha=0.4)
    for name, low, high in zip(names, edges[:-1], edges[1:], strict=True):
        middle = np.sqrt(low * high) if chart.logarithmic else (low + high) / 2
        axes.text(float(middle), 1.02, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, pixel_m: float | None) -> None:
    low, high = panel.limits
    drawn = axes.imshow(panel.image, cmap=panel.colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(panel.title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    bar.set_label(panel.unit, fontsize=8)
    if pixel_m:
        _draw_scale_bar(axes, panel.image.shape, pixel_m)


def _draw_scale_bar(axes: Axes, shape: tuple[int, ...], pixel_m: float) -> None:
    height, width = shape
    length_m = scale_bar_m(width * pixel_m)
    left, bottom = 0.04 * width, 0.95 * height
    thickness = 0.012 * width
    bar = Rectangle((left, bottom - thickness), length_m / pixel_m, thickness, facecolor="white")
    bar.set(edgecolor="black", linewidth=0.5)
    axes.add_patch(bar)
    words = axes.text(left, bottom - 2.5 * thickness, length_in_words(length_m), color="white", fontsize=9)
    words.set_bbox({"facecolor": "black", "alpha": 0.45, "linewidth": 0, "pad": 1.5})


def _rendered(draw: Callable[[Figure], None], inches: tuple[float, float], theme: Theme, kind: str) -> str:
    """Return the data URI of what `draw` paints on an empty figure; the same input gives the same bytes."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {**dict.fromkeys(inked, theme.ink), "svg.hashsalt": "report", "font.size": 10}
    style |= {"axes.facecolor": "none", "figure.facecolor": "none" if kind == "svg" else _PLATE_GROUND}
    with rc_context(style):
        figure = Figure(inches, dpi=130, layout="constrained")
        draw(figure)
        file = BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, metadata=metadata)
    mime = "svg+xml" if kind == "svg" else "png"
    return f"data:image/{mime};base64,{b64encode(file.getvalue()).decode()}"
