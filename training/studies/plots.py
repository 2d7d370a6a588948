"""Pictures of a study: how its cells converge, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.studies.tables import Key, Record, by_cell

_MARKERS = "osD^vP*Xph<>d"


def plot_convergence(records: list[Record], path: Path) -> None:
    """Draw the validation tiles' circular phase error by epoch, a line a cell, their spread as a band."""
    figure, axes = _figure("epoch", "phase error of validation tiles, rad RMS")
    for (key, group), marker in zip(by_cell(records).items(), _cycle(_MARKERS), strict=False):
        curves = [record.get("history", {}).get("phase_rms_rad", []) for record in group]
        shortest = min(map(len, curves))
        if shortest:
            _band(axes, np.array([curve[:shortest] for curve in curves]), _label(key), marker)
    axes.set_yscale("log")
    _save(figure, axes, path)


def plot_cost(records: list[Record], path: Path) -> None:
    """Draw each cell's phase error over its multiplications a frame; the marker's area is its parameters."""
    figure, axes = _figure("million multiplications a frame", "phase error of the mosaic, rad RMS")
    for (key, group), marker in zip(by_cell(records).items(), _cycle(_MARKERS), strict=False):
        cost = group[0]["cost"]
        if cost["macs"] is None:  # an iterative reconstruction
            continue
        errors = [record["stitched"]["circle"]["circular"]["rms_rad"] for record in group]
        size = 20 + cost["parameters"] / 3e4
        axes.scatter(
            [cost["macs"] / 1e6] * len(errors), errors, size, marker=marker, alpha=0.7, label=_label(key)
        )
    axes.set_xscale("log")
    _save(figure, axes, path)


def _band(axes: Axes, curves: Any, label: str, marker: str) -> None:
    epochs, mean, std = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0), curves.std(axis=0)
    axes.plot(epochs, mean, marker=marker, markersize=3, linewidth=1, label=label)
    axes.fill_between(epochs, mean - std, mean + std, alpha=0.15)


def _label(key: Key) -> str:
    data, split, method = key
    return f"{method} ({data}, {split})"


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
