"""Pictures of a study: how its cells converge, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.studies.cells import Record

Points = tuple[Sequence[float], Sequence[float]]
"""Values across, and as many upward."""

_MARKERS = "osD^vP*Xph<>d"


def plot_convergence(lines: dict[str, list[Record]], path: Path, look: str) -> None:
    """Draw the validation tiles' circular phase error look by look, a line a cell, their spread as a band.

    Args:
        lines: records of a cell's seeds by its name.
        path: SVG file to write.
        look: after what validation frames were looked at, e.g. "epoch".
    """
    figure, axes = _figure(look, "phase error of validation tiles, rad RMS")
    for (name, group), marker in zip(lines.items(), _cycle(_MARKERS), strict=False):
        curves = [record.get("history", {}).get("phase_rms_rad", []) for record in group]
        shortest = min(map(len, curves))
        if shortest:
            _band(axes, np.array([curve[:shortest] for curve in curves]), name, marker)
    axes.set_yscale("log")
    _save(figure, axes, path)


def plot_cost(lines: dict[str, list[Record]], path: Path, mosaic_rad: Callable[[Record], float]) -> None:
    """Draw each cell's phase error over its multiplications a frame; the marker's area is its parameters.

    Args:
        lines: records of a cell's seeds by its name.
        path: SVG file to write.
        mosaic_rad: phase error of a record's mosaic.
    """
    figure, axes = _figure("million multiplications a frame", "phase error of the mosaic, rad RMS")
    for (name, group), marker in zip(lines.items(), _cycle(_MARKERS), strict=False):
        cost = group[0]["cost"]
        if cost["macs"] is None:  # an iterative reconstruction
            continue
        errors = [mosaic_rad(record) for record in group]
        size = 20 + cost["parameters"] / 3e4
        axes.scatter([cost["macs"] / 1e6] * len(errors), errors, size, marker=marker, alpha=0.7, label=name)
    axes.set_xscale("log")
    _save(figure, axes, path)


def plot_residuals(lines: dict[str, Points], path: Path) -> None:
    """Draw forward residuals after so many iterations, a line each.

    Args:
        lines: iterations from 0, and residuals after them, by name.
        path: SVG file to write.
    """
    figure, axes = _figure("iterations", "forward residual")
    for (name, points), marker in zip(lines.items(), _cycle(_MARKERS), strict=False):
        axes.plot(*points, marker=marker, markersize=3, linewidth=1, label=name)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("log")
    _save(figure, axes, path)


def _band(axes: Axes, curves: Any, label: str, marker: str) -> None:
    looks, mean, std = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0), curves.std(axis=0)
    axes.plot(looks, mean, marker=marker, markersize=3, linewidth=1, label=label)
    axes.fill_between(looks, mean - std, mean + std, alpha=0.15)


def _cycle(markers: str) -> list[str]:
    return list(markers) * 10


def _figure(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None})
