"""Which of the eight orientations explains some frames best: tried out, one after another.

Pure: it is handed what runs the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.orientation import Orientation

Real = NDArray[np.floating[Any]]
Explain = Callable[[NDArray[Any]], Real]
Way = TypeVar("Way")

CLEARLY: Final = 0.8  # one way is the right one when the residual of every other is this much worse


def orientation_residuals(
    counts: NDArray[Any], explain: Explain, ways: Iterable[Orientation] = Orientation
) -> dict[Orientation, float]:
    """Return the median forward residual of frames with each orientation done to them, best first.

    Args:
        counts: (k, 1, H, W) frames.
        explain: returns the forward residuals (k,) of frames (k, 1, H, W).
        ways: those to try; one that would change the frames' shape is left out.
    """
    fitting = [way for way in ways if way.fits((counts.shape[-2], counts.shape[-1]))]
    return best_first({way: finite_median(explain(np.ascontiguousarray(way.of(counts)))) for way in fitting})


def best_first(residuals: Mapping[Way, float]) -> dict[Way, float]:
    """Return residuals by size, the least first; equal ones stay in order."""
    return dict(sorted(residuals.items(), key=lambda pair: pair[1]))


def contenders(residuals: Mapping[Way, float]) -> list[Way]:
    """Return the best way, and those that are not clearly worse; none where nothing is explained at all."""
    ranked = best_first({way: residual for way, residual in residuals.items() if np.isfinite(residual)})
    best = next(iter(ranked.values()), 0.0)
    return [way for way, residual in ranked.items() if best >= CLEARLY * residual]


def finite_median(values: Real) -> float:
    """Return the median of what is finite; infinity where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.inf
