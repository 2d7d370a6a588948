"""The lines and places of a raster scan, recovered from its positions, whichever way it is turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

_STRAIGHT = 0.5  # steps whose directions agree less than this make no lines


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Where each frame stands in a scan.

    Attributes:
        places: (N, 2) scan line and place within it, from 0.
        directions: (2, 2) unit vectors y, x along which the numbers of lines and of places grow.
    """

    places: NDArray[np.int64]
    directions: NDArray[np.float64]


def find_raster(positions: NDArray[np.floating]) -> Raster:
    """Recover the raster from the positions (N, 2) y, x of consecutive frames, in any unit.

    Lines run as most steps from frame to frame do. Sorted across them, positions of one line lie close
    together and lines apart: the gaps are told into the two kinds by Otsu's threshold (IEEE Trans. Syst. Man
    Cybern. 9, 62 (1979)). Lines are numbered across and places along them, whichever way the beam went.
    Positions on no raster still fall into bands.
    """
    directions = _directions(positions)
    across, along = (positions @ direction for direction in directions)
    order = np.argsort(across, kind="stable")
    gaps = np.diff(across[order])
    lines = np.zeros(len(positions), np.int64)
    if gaps.size:
        lines[order[1:]] = np.cumsum(_between_lines(gaps))
    return Raster(np.stack([lines, _places(lines, along)], axis=1), directions)


def _directions(positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return unit vectors (2, 2) y, x across the lines and along them, each pointing to growing y or x.

    Opposite steps are one direction: their angles are averaged doubled. Flybacks are left out. Without a
    common direction the lines run along that axis on which consecutive frames move more.
    """
    steps = np.diff(positions, axis=0)
    lengths = np.hypot(*steps.T)
    usual = lengths <= 2 * np.median(lengths[lengths > 0]) if lengths.any() else lengths > 0
    doubled = np.square(steps[usual, 1] + 1j * steps[usual, 0]).sum()
    if np.abs(doubled) > _STRAIGHT * np.square(lengths[usual]).sum():
        half = np.angle(doubled) / 2
        along = np.array([np.sin(half), np.cos(half)])
    else:
        along = np.array([0.0, 1.0] if np.argmin(np.abs(steps).sum(axis=0)) == 0 else [1.0, 0.0])
    return np.stack([_growing(np.array([along[1], -along[0]])), _growing(along)])


def _growing(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    return direction if direction[np.argmax(np.abs(direction))] > 0 else -direction


def _between_lines(gaps: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which gaps lie between two lines; none where all gaps are alike.

    Otsu's threshold is the lowest of the equally good ones and may graze the smaller kind; halfway between
    the means of the two kinds is clear of both.
    """
    large = np.asarray(gaps > threshold_otsu(gaps))  # type: ignore[no-untyped-call]
    if not large.any():
        return large
    return np.asarray(gaps > (gaps[large].mean() + gaps[~large].mean()) / 2)


def _places(lines: NDArray[np.int64], along: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return each position's rank along its line."""
    order = np.lexsort((along, lines))
    _, starts, counts = np.unique(lines[order], return_index=True, return_counts=True)
    places = np.empty(len(lines), np.int64)
    places[order] = np.arange(len(lines)) - np.repeat(starts, counts)
    return places
