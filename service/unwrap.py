"""The phase without its jumps: whole turns added so that neighbours differ by less than half a turn.

The way is that of M. A. Herráez, D. R. Burton, M. J. Lalor and M. A. Gdeisat, "Fast two-dimensional
phase-unwrapping algorithm based on sorting by reliability following a noncontinuous path", Applied
Optics 41, 7437 (2002): neighbours are joined, those between which the phase is smoothest first, so that
what a vortex tears lies where nothing could be relied on. Here their tree is found by Borůvka's rounds,
all pieces at once, which NumPy is quick at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.messages import Float32
from service.mosaic import Bounds, Mosaic

MOST_PX = 512  # a side of what is unwrapped; a larger mosaic is averaged down first
TURN_RAD = 2 * np.pi

_STRIP_ROWS = 1024

Indices = NDArray[np.int64]
Turns = NDArray[np.int32]


def unwrap(phase_rad: Float32, covered: NDArray[np.bool_]) -> Float32:
    """Return a phase (H, W) float32 without jumps, NaN where it is not covered.

    Pieces that do not touch are unwrapped each for itself: how many turns lie between them is in no data.
    Each is moved by whole turns so that its pixels have none on average.

    Args:
        phase_rad: (H, W) radians; any number of turns.
        covered: (H, W), where there is one.
    """
    found = np.full(phase_rad.shape, np.nan, np.float32)
    known = phase_rad[covered]
    if known.size:
        found[covered] = known + TURN_RAD * _turns(phase_rad, covered)
    return found


def unwrap_plane(phase_rad: Float32, coverage: Float32, most_px: int = MOST_PX) -> Float32:
    """Return a phase (H, W) float32 without jumps, NaN where no light fell.

    Of a large one, a coarser one is unwrapped and tells the turns.

    Args:
        phase_rad: (H, W) radians.
        coverage: (H, W) light that fell.
        most_px: of a side of what is unwrapped.
    """
    step = _step(phase_rad.shape, most_px)
    phasors = _summed((coverage * np.exp(1j * phase_rad)).astype(np.complex64), step)
    found = _unwrapped(phasors, (0, 0, *phase_rad.shape[:2]), step)
    return np.where(coverage > 0, found.at_full_size(phase_rad), np.float32(np.nan))


class Unwrapped(NamedTuple):
    """The unwrapped phase of a mosaic, every `step` pixels.

    Attributes:
        plane: (H, W) float32 radians, NaN where no light fell; each a mean of step × step pixels.
        bounds: of the mosaic then.
        step: pixels of the mosaic a pixel of the plane.
    """

    plane: Float32
    bounds: Bounds
    step: int

    def at_full_size(self, phase_rad: Float32) -> Float32:
        """Return the phase (Y, X) within the bounds with this one's turns; 0 where no light fell."""
        rows, columns = (np.arange(edge) // self.step for edge in phase_rad.shape)
        near = self.plane[np.ix_(rows, columns)]
        turns = np.round((np.nan_to_num(near) - phase_rad) / TURN_RAD)
        return np.where(np.isfinite(near), phase_rad + TURN_RAD * turns, 0).astype(np.float32)


def unwrapped(mosaic: Mosaic, most_px: int = MOST_PX) -> Unwrapped:
    """Unwrap a mosaic's phase as it is now; one with a longer side is averaged down first, as phasors.

    Args:
        mosaic: growing meanwhile.
        most_px: of a side of what is unwrapped.
    """
    bounds = mosaic.bounds()
    y0, x0, y1, x1 = bounds
    step = _step((y1 - y0, x1 - x0), most_px)
    rows = _STRIP_ROWS // step * step or step
    strips = [
        _summed(mosaic.phasors((top, x0, min(top + rows, y1), x1)), step) for top in range(y0, y1, rows)
    ]
    phasors = np.concatenate(strips) if strips else np.zeros((0, 0), np.complex64)
    return _unwrapped(phasors, bounds, step)


def _step(shape: tuple[int, ...], most_px: int) -> int:
    return max(1, -(-max(shape) // most_px))


def _unwrapped(phasors: NDArray[np.complex64], bounds: Bounds, step: int) -> Unwrapped:
    return Unwrapped(unwrap(np.angle(phasors).astype(np.float32), phasors != 0), bounds, step)


def _summed(phasors: NDArray[np.complex64], step: int) -> NDArray[np.complex64]:
    """Return Σ w e^{iφ} of step × step pixels each, as (H, W) complex64."""
    height, width = phasors.shape
    if step == 1:
        return phasors
    padded = np.zeros((-(-height // step) * step, -(-width // step) * step), np.complex64)
    padded[:height, :width] = phasors
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step)
    summed: NDArray[np.complex64] = blocks.sum(axis=(1, 3))
    return summed


def _turns(phase_rad: Float32, covered: NDArray[np.bool_]) -> Turns:
    """Return how many turns each covered pixel is moved by, in the order of `phase_rad[covered]`."""
    number = np.cumsum(covered).reshape(covered.shape) - 1
    rough = _roughness(phase_rad, covered)
    a, b = _neighbours(number, covered)
    known, roughness = phase_rad[covered], rough[covered]
    order = np.argsort(roughness[a] + roughness[b], kind="stable")
    a, b = a[order], b[order]
    jump = np.round((known[a] - known[b]) / TURN_RAD).astype(np.int32)
    return _joined(len(known), a, b, jump)


def _neighbours(number: Indices, covered: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Return the pairs of covered pixels that share an edge, by their numbers."""
    pairs = [
        (number[one][both], number[other][both])
        for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
        for both in [covered[one] & covered[other]]
    ]
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _roughness(phase_rad: Float32, covered: NDArray[np.bool_]) -> Float32:
    """Return the second differences of the phase along four lines, squared and added; large at the rim."""
    height, width = phase_rad.shape
    around = np.pad(phase_rad, 1)
    middle = around[1:-1, 1:-1]
    rough: Float32 = np.zeros(phase_rad.shape, np.float32)
    inside = np.pad(covered, 1)
    whole = covered.copy()
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        before, after = (
            np.s_[1 + sign * down : 1 + sign * down + height, 1 + sign * right : 1 + sign * right + width]
            for sign in (-1, 1)
        )
        bend = _wrapped(around[before] - middle) - _wrapped(middle - around[after])
        rough += np.square(bend, dtype=np.float32)
        whole &= inside[before] & inside[after]
    return np.where(whole, rough, np.float32(16 * TURN_RAD**2))


def _wrapped(radians: Float32) -> Float32:
    turn = np.float32(TURN_RAD)
    return (radians - turn * np.round(radians / turn)).astype(np.float32, copy=False)


def _joined(pixels: int, a: Indices, b: Indices, jump: Turns) -> Turns:
    """Join pixels along edges, best edges first, and return the turns of each (Borůvka's rounds).

    Args:
        pixels: how many there are.
        a: (edges,) a pixel of each edge.
        b: (edges,) the other one.
        jump: (edges,) turns to be added to b more than to a.
    """
    piece = np.arange(pixels)
    turns = np.zeros(pixels, np.int32)
    while True:
        of_a, of_b = piece[a], piece[b]
        between = np.flatnonzero(of_a != of_b)
        if not len(between):
            break
        a, b, jump = a[between], b[between], jump[between]
        parent, moved = _chosen(pixels, of_a[between], of_b[between], turns[a] + jump - turns[b])
        turns += moved[piece]
        piece = parent[piece]
    counts = np.bincount(piece, minlength=pixels)
    means = np.bincount(piece, turns, pixels) / np.maximum(counts, 1)
    return turns - np.round(means).astype(np.int32)[piece]


def _chosen(pixels: int, of_a: Indices, of_b: Indices, lift: Turns) -> tuple[Indices, Turns]:
    """Let every piece follow its best edge; return the piece that each becomes part of, and its turns.

    Args:
        pixels: pieces are numbered below it.
        of_a: (edges,) a piece that an edge joins, best edges first.
        of_b: (edges,) the other one.
        lift: (edges,) turns that b's piece is to be moved by, to fit a's.
    """
    edges = len(of_a)
    best = np.full((2, pixels), edges)
    for row, of_piece in zip(best, (of_a, of_b), strict=True):
        row[of_piece[::-1]] = np.arange(edges)[::-1]  # of equal places the last stays: the best
    edge = best.min(axis=0)
    pieces = np.flatnonzero(edge < edges)
    edge = edge[pieces]
    is_a = of_a[edge] == pieces
    parent, moved = np.arange(pixels), np.zeros(pixels, np.int32)
    parent[pieces] = np.where(is_a, of_b[edge], of_a[edge])
    moved[pieces] = np.where(is_a, -lift[edge], lift[edge])
    heads = pieces[(parent[parent[pieces]] == pieces) & (pieces < parent[pieces])]  # both chose one edge
    parent[heads], moved[heads] = heads, 0
    above = parent[pieces]
    while (parent[above] != above).any():
        moved[pieces] += moved[above]
        parent[pieces] = parent[above]
        above = parent[pieces]
    return parent, moved
