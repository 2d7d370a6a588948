"""Which frames of a raster scan teach, which choose the checkpoint, and which judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from training.datasets.labelled import LabelledSet

SplitName = Literal["rows", "corner", "disjoint"]
Indices = NDArray[np.int64]

_TEST_SHARE = 12 / 61  # of the lines; the paper's
_VALIDATION_SHARE = 0.1
_CORNER_LINES = 12
_CORNER_VALIDATION = 200


class Split(NamedTuple):
    """Indices of frames, each once at most.

    Attributes:
        train, validation, test: (n,) indices into the set.
    """

    train: Indices
    validation: Indices
    test: Indices


def split_set(data: LabelledSet, name: SplitName, seed: int = 0) -> Split:
    """Split a set.

    Args:
        data: the set.
        name: "rows", the paper's: the last 12 of 61 lines judge (of PtychoNN's set the last 61 of 161), a
            tenth of the other frames is held out;
            "corner", the released code's: only the last 12 × 12 places judge;
            "disjoint", ours: no pixel of the object is shared by two of the three parts.
        seed: of the frames that are held out for validation.

    Raises:
        ValueError: the set is too small for it.
    """
    split = _SPLITS[name](data, np.random.default_rng(seed))
    if not all(len(part) for part in split):
        raise ValueError(f"{data.name}: {len(data)} frames are too few for the split {name!r}")
    return split


def by_rows(data: LabelledSet, rng: np.random.Generator) -> Split:
    """Split by scan lines; neighbouring tiles share object pixels, as in the paper."""
    test = data.raster[:, 0] >= _first_test_line(data)
    return _hold_out(np.flatnonzero(~test), np.flatnonzero(test), _VALIDATION_SHARE, rng)


def by_corner(data: LabelledSet, rng: np.random.Generator) -> Split:
    """Hold out the lower right corner; nearly every test tile shares object pixels with training tiles."""
    lines = min(_CORNER_LINES, (data.raster.max() + 1) // 3)
    test = (data.raster > data.raster.max(axis=0) - lines).all(axis=1)
    others = np.flatnonzero(~test)
    return _hold_out(others, np.flatnonzero(test), min(_CORNER_VALIDATION / len(others), 0.2), rng)


def by_area(data: LabelledSet, _: np.random.Generator) -> Split:
    """Split by scan lines, and leave out the frames between the parts whose tiles reach into both."""
    lines = data.raster[:, 0]
    test = lines >= _first_test_line(data)
    rest = np.flatnonzero(_above(data, test) & ~test)
    if not len(rest):
        return Split(rest, rest, np.flatnonzero(test))
    held_out = np.unique(lines[rest])[-max(1, round(_VALIDATION_SHARE * len(np.unique(lines)))) :]
    validation = np.isin(lines, held_out)
    validation[np.setdiff1d(np.arange(len(data)), rest)] = False
    train = rest[_above(data, validation)[rest] & ~validation[rest]]
    return Split(train, np.flatnonzero(validation), np.flatnonzero(test))


def object_pixels(data: LabelledSet, frames: Indices) -> NDArray[np.bool_]:
    """Return which pixels of the object the tiles of some frames hold, (Y, X) bool."""
    height, width = data.tile_shape
    held = np.zeros(data.corners_px.max(axis=0) + np.array(data.tile_shape), bool)
    for y, x in data.corners_px[frames]:
        held[y : y + height, x : x + width] = True
    return held


def _first_test_line(data: LabelledSet) -> int:
    if data.first_test_line is not None:
        return data.first_test_line
    lines = int(data.raster[:, 0].max()) + 1
    return lines - max(1, round(_TEST_SHARE * lines))


def _above(data: LabelledSet, part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames' tiles end above the first row of a part's."""
    above: NDArray[np.bool_] = data.corners_px[:, 0] + data.tile_shape[0] <= data.corners_px[part, 0].min()
    return above


def _hold_out(rest: Indices, test: Indices, share: float, rng: np.random.Generator) -> Split:
    mixed = rng.permutation(rest)
    held_out = max(1, round(share * len(rest)))
    return Split(np.sort(mixed[held_out:]), np.sort(mixed[:held_out]), test)


_SPLITS: dict[SplitName, Callable[[LabelledSet, np.random.Generator], Split]] = {
    "rows": by_rows,
    "corner": by_corner,
    "disjoint": by_area,
}
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
