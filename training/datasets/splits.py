"""Which frames of a raster scan teach, which choose the checkpoint, and which judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from model.geometry import to_pixels
from model.scans import ScanFile, ScanFileError
from training.datasets.labelled import LabelledSet
from training.datasets.part import reference_of
from training.datasets.raster import find_raster

SplitName = Literal["rows", "corner", "disjoint"]
PartName = Literal["train", "validation", "test"]
Indices = NDArray[np.int64]

_TEST_SHARE = 12 / 61  # of the lines; the paper's
_VALIDATION_SHARE = 0.1
_CORNER_LINES = 12
_CORNER_VALIDATION = 200
_TOUCHING_PX = 1e-6  # rounding in the corners of a raster that is turned
LINES, PLACES = 0, 1


class Split(NamedTuple):
    """Indices of frames, each once at most.

    Attributes:
        train, validation, test: (n,) indices into the set.
    """

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the frames of a raster scan lie on the object: all that a split asks of them.

    Attributes:
        name: of the set or the scan.
        raster: (N, 2) scan line and place within it, from 0.
        directions: (2, 2) unit vectors y, x along which lines and places grow.
        corners_px: (N, 2) top-left (row, column) of each frame's tile in the object, whole pixels.
        tile_shape: (h, w), what of the object a frame is taken to see.
        first_test_line: of the split by rows as the set was published; None: the last fifth of the lines.
    """

    name: str
    raster: NDArray[np.int64]
    directions: NDArray[np.float64]
    corners_px: NDArray[np.int64]
    tile_shape: tuple[int, int]
    first_test_line: int | None = None

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.raster)


def layout_of_set(data: LabelledSet) -> Layout:
    """Return where the frames of a set lie, with the tiles that they teach."""
    return Layout(
        data.name, data.raster, data.directions, data.corners_px, data.tile_shape, data.first_test_line
    )


def layout_of_scan(scan: ScanFile) -> Layout:
    """Return where the frames of a scan file lie; each is taken to see its whole patch of the object.

    So the parts of a scan are the same for every method, also for those that paint less than a patch.

    Raises:
        ScanFileError: the object's pixel is not known, or the reference is one of other frames.
    """
    reference = reference_of(scan)
    if reference is not None:
        corners = reference.positions_px
    elif scan.object_pixel_m is not None:
        corners = to_pixels(scan.positions_m, scan.object_pixel_m)
    else:
        raise ScanFileError(
            f"{scan.path}: the object's pixel is not known, so nothing tells who shares pixels"
        )
    raster = find_raster(scan.positions_m)
    whole = np.rint(corners).astype(np.int64)
    return Layout(scan.path.stem, raster.places, raster.directions, whole, scan.frame_shape)


def split_set(data: LabelledSet, name: SplitName, seed: int = 0) -> Split:
    """Split a set; arguments and errors as of `split_layout`."""
    return split_layout(layout_of_set(data), name, seed)


def split_layout(layout: Layout, name: SplitName, seed: int = 0) -> Split:
    """Split the frames of a set or a scan.

    Args:
        layout: of the frames.
        name: "rows", the paper's: the last 12 of 61 lines judge (of PtychoNN's set the last 61 of 161), a
            tenth of the other frames is held out;
            "corner", the released code's: only the last 12 × 12 places judge;
            "disjoint", ours: no pixel of the object is shared by two of the three parts.
        seed: of the frames that are held out for validation.

    Raises:
        ValueError: the set is too small for it.
    """
    split = _SPLITS[name](layout, np.random.default_rng(seed))
    if not all(len(part) for part in split):
        raise ValueError(f"{layout.name}: {len(layout)} frames are too few for the split {name!r}")
    return split


def by_rows(layout: Layout, rng: np.random.Generator) -> Split:
    """Split by scan lines; neighbouring tiles share object pixels, as in the paper."""
    test = layout.raster[:, LINES] >= _first_test_band(layout, LINES)
    return _hold_out(np.flatnonzero(~test), np.flatnonzero(test), _VALIDATION_SHARE, rng)


def by_corner(layout: Layout, rng: np.random.Generator) -> Split:
    """Hold out the lower right corner; nearly every test tile shares object pixels with training tiles."""
    lines = min(_CORNER_LINES, (layout.raster.max() + 1) // 3)
    test = (layout.raster > layout.raster.max(axis=0) - lines).all(axis=1)
    others = np.flatnonzero(~test)
    return _hold_out(others, np.flatnonzero(test), min(_CORNER_VALIDATION / len(others), 0.2), rng)


def by_area(layout: Layout, _: np.random.Generator) -> Split:
    """Split into bands, and leave out the frames between whose tiles reach into two parts.

    The bands are scan lines; where so few lines leave no room for three parts and the gaps between them,
    they are the places within the lines.
    """
    by_lines, by_places = _in_bands(layout, LINES), _in_bands(layout, PLACES)
    return by_lines if all(map(len, by_lines)) else by_places


def _in_bands(layout: Layout, axis: int) -> Split:
    band = layout.raster[:, axis]
    test = band >= _first_test_band(layout, axis)
    rest = np.flatnonzero(_before(layout, test, axis) & ~test)
    if not len(rest):
        return Split(rest, rest, np.flatnonzero(test))
    held_out = np.unique(band[rest])[-max(1, round(_VALIDATION_SHARE * len(np.unique(band)))) :]
    validation = np.isin(band, held_out)
    validation[np.setdiff1d(np.arange(len(layout)), rest)] = False
    train = rest[_before(layout, validation, axis)[rest] & ~validation[rest]]
    return Split(train, np.flatnonzero(validation), np.flatnonzero(test))


def object_pixels(data: LabelledSet | Layout, frames: Indices) -> NDArray[np.bool_]:
    """Return which pixels of the object the tiles of some frames hold, (Y, X) bool."""
    height, width = data.tile_shape
    held = np.zeros(data.corners_px.max(axis=0) + np.array(data.tile_shape), bool)
    for y, x in data.corners_px[frames]:
        held[y : y + height, x : x + width] = True
    return held


def _first_test_band(layout: Layout, axis: int) -> int:
    if axis == LINES and layout.first_test_line is not None:
        return layout.first_test_line
    bands = int(layout.raster[:, axis].max()) + 1
    return bands - max(1, round(_TEST_SHARE * bands))


def _before(layout: Layout, part: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Return which frames' tiles end before a part's first tile begins, going from band to band."""
    direction = layout.directions[axis]
    along = layout.corners_px @ direction
    reach = np.abs(direction) @ np.array(layout.tile_shape)
    before: NDArray[np.bool_] = along + reach <= along[part].min() + _TOUCHING_PX
    return before


def _hold_out(rest: Indices, test: Indices, share: float, rng: np.random.Generator) -> Split:
    mixed = rng.permutation(rest)
    held_out = max(1, round(share * len(rest)))
    return Split(np.sort(mixed[held_out:]), np.sort(mixed[:held_out]), test)


_SPLITS: dict[SplitName, Callable[[Layout, np.random.Generator], Split]] = {
    "rows": by_rows,
    "corner": by_corner,
    "disjoint": by_area,
}
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)
PART_NAMES: tuple[PartName, ...] = get_args(PartName)
