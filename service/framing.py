"""How a detector's frames become those of the model: cut out about the beam, binned, turned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.orientation import Orientation
from service.errors import StreamError

Shape = tuple[int, int]
Counts = NDArray[Any]


class FramingError(StreamError):
    """A detector's frames cannot become the model's."""


@dataclass(frozen=True, slots=True)
class Framing:
    """What is done to the frames and positions of one scan.

    Of an even number of detector pixels that are binned into one none is the middle: the zero frequency
    then lies half a detector pixel above and left of the middle of its binned pixel. A mirror of an even
    number of pixels keeps the outermost row or column on its side, as the periodic transform has it.

    Attributes:
        detector_shape: (H, W) of the frames as they are sent.
        corner: row and column of the first detector pixel that is kept.
        cut_shape: (h, w) detector pixels that are kept.
        binning: side of the square of detector pixels whose counts are added up.
        orientation: done to the frames after that.
        axes: done to the positions.
        saturation: count from which a detector pixel says nothing any more, None where not told.
    """

    detector_shape: Shape
    corner: Shape
    cut_shape: Shape
    binning: int = 1
    orientation: Orientation = Orientation.UPRIGHT
    axes: Orientation = Orientation.UPRIGHT
    saturation: float | None = None

    @property
    def frame_shape(self) -> Shape:
        """(H, W) of the frames it gives."""
        height, width = self.cut_shape
        return self.orientation.of_shape((height // self.binning, width // self.binning))

    @property
    def leaves_frames(self) -> bool:
        """Whether frames stay as they are."""
        return (
            self.cut_shape == self.detector_shape
            and self.binning == 1
            and self.orientation is Orientation.UPRIGHT
        )

    @property
    def object_pixel_scale(self) -> float:
        """How many times larger the object's pixel λz / (NΔ) is than with all of the detector."""
        return self.detector_shape[1] / self.cut_shape[1]

    def of_counts(self, counts: Counts) -> Counts:
        """Return a frame (H, W) as the model takes it; the very same array where nothing is to be done.

        Where one detector pixel of a binned one is marked as bad or saturated, so is that: with the
        greatest number of its type, or not a number.
        """
        if self.leaves_frames:
            return counts
        cut = self._cut(counts)
        turned = self.orientation.of(cut if self.binning == 1 else self._binned(cut))
        return _own(turned)

    def of_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask (H, W) that goes with `of_counts`: one bad pixel makes the binned one bad."""
        bad = _folded(np.logical_or, self._cut(mask), self.binning)
        return _own(self.orientation.of(bad))

    def of_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the pixel type of the frames it gives: wide enough for the sums, up to 32 bits."""
        if dtype.kind == "f" or self.binning == 1:
            return dtype
        greatest = self._greatest_sum(dtype)
        wide_enough = (np.dtype(f"<u{size}") for size in (1, 2, 4) if greatest < np.iinfo(f"u{size}").max)
        return np.promote_types(dtype, next(wide_enough, np.dtype("<u4")))

    def report(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "detector_shape": list(self.detector_shape),
            "crop_corner": list(self.corner),
            "crop": list(self.cut_shape),
            "bin": self.binning,
            "orientation": self.orientation.setting,
            "positions_axes": self.axes.axes,
        }

    def _cut(self, frame: NDArray[Any]) -> NDArray[Any]:
        (top, left), (height, width) = self.corner, self.cut_shape
        return frame[top : top + height, left : left + width]

    def _binned(self, cut: Counts) -> Counts:
        dtype = self.of_dtype(cut.dtype)
        peaks = _folded(np.maximum, cut, self.binning)
        if dtype.kind == "f":
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is marked
                sums = _added(cut, self.binning, np.dtype(np.float64)).astype(dtype)
            bad = ~np.isfinite(sums) | (peaks >= (self.saturation or math.inf))
            return _marked(sums, bad, np.nan)
        mark = int(np.iinfo(dtype).max)
        if self._greatest_sum(cut.dtype) < mark:
            sums = _added(cut, self.binning, dtype)  # what overflows holds a bad pixel
        else:
            sums = np.minimum(_added(cut, self.binning, np.dtype(np.uint64)), mark - 1).astype(dtype)
        return _marked(sums, peaks >= _least_bad(cut.dtype, self.saturation), mark)

    def _greatest_sum(self, dtype: np.dtype[Any]) -> int:
        return (_least_bad(dtype, self.saturation) - 1) * self.binning**2


def plan_framing(
    detector_shape: Shape,
    frame_shape: Shape,
    *,
    orientation: Orientation = Orientation.UPRIGHT,
    axes: Orientation = Orientation.UPRIGHT,
    binning: int = 1,
    crop: Shape | None = None,
    beam_px: tuple[float, float] | None = None,
    saturation: float | None = None,
) -> Framing:
    """Return what makes the model's frames of a detector's.

    Args:
        detector_shape: (H, W) of the frames as they are sent.
        frame_shape: (H, W) that the model takes.
        orientation: to be done to the frames.
        axes: to be done to the positions.
        binning: side of the square of detector pixels that become one.
        crop: (H, W) detector pixels that somebody wants to be kept; None: what the model needs.
        beam_px: row and column, from 0, of the detector pixel that the direct beam hits; None: the middle.
        saturation: count from which a detector pixel says nothing any more.

    Raises:
        FramingError: the frames cannot become the model's.
    """
    height, width = orientation.of_shape(frame_shape)
    needed = (height * binning, width * binning)
    if crop is not None and crop != needed:
        raise FramingError(
            f"a crop of {by(crop)} with a bin of {binning} does not give the model's {by(frame_shape)}: "
            f"{by(needed)} does; check crop and bin, or the bundle"
        )
    if detector_shape[0] < needed[0] or detector_shape[1] < needed[1]:
        raise FramingError(
            f"frames of {by(detector_shape)} are too small for the model's {by(frame_shape)} with a bin of "
            f"{binning}: check the detector's region of interest and the bin, or the bundle"
        )
    corner = _corner(detector_shape, needed, binning, beam_px)
    return Framing(detector_shape, corner, needed, binning, orientation, axes, saturation)


def _corner(
    detector_shape: Shape, cut_shape: Shape, binning: int, beam_px: tuple[float, float] | None
) -> Shape:
    """Return the first pixel of the cut whose binned pixel [h // 2, w // 2] holds the beam."""
    if beam_px is None:
        return detector_shape[0] // 2 - cut_shape[0] // 2, detector_shape[1] // 2 - cut_shape[1] // 2
    sides = zip(detector_shape, cut_shape, beam_px, strict=True)
    top, left = (_first(detector, cut, binning, beam) for detector, cut, beam in sides)
    if top is None or left is None:
        raise FramingError(
            f"a crop of {by(cut_shape)} about the beam at row {beam_px[0]:g}, column {beam_px[1]:g} reaches "
            f"beyond frames of {by(detector_shape)}: check beam_centre, crop and bin"
        )
    return top, left


def _first(detector: int, cut: int, binning: int, beam_px: float) -> int | None:
    """Return the first pixel of a cut along one side; None where it does not lie within the detector."""
    first = math.floor(beam_px - (binning - 1) / 2 + 0.5) - cut // binning // 2 * binning
    within = min(max(first, 0), detector - cut)
    # half a binned pixel: as much as binning an even number blurs anyway
    return within if abs(within - first) <= binning // 2 else None


def _folded(combine: Callable[[Any, Any], Any], pixels: NDArray[Any], binning: int) -> NDArray[Any]:
    """Return (H / b, W / b), each pixel combined of b × b; rows first, which lie side by side in memory."""
    rows = reduce(combine, (pixels[first::binning] for first in range(binning)))
    folded: NDArray[Any] = reduce(combine, (rows[:, first::binning] for first in range(binning)))
    return folded


def _added(pixels: Counts, binning: int, dtype: np.dtype[Any]) -> Counts:
    return _folded(lambda a, b: np.add(a, b, dtype=dtype), pixels, binning)


def _least_bad(dtype: np.dtype[Any], saturation: float | None) -> int:
    """Return the least count of unsigned integers that is none: saturated, or the mark of a bad pixel."""
    mark = int(np.iinfo(dtype).max)
    return mark if saturation is None else min(mark, math.ceil(saturation))


def _marked(counts: Counts, bad: NDArray[np.bool_], mark: float) -> Counts:
    counts[bad] = mark
    return counts


def _own(frame: NDArray[Any]) -> NDArray[Any]:
    """Return a frame in memory of its own: a view would keep the whole detector's alive while it waits."""
    return frame if frame.flags.owndata and frame.flags.c_contiguous else frame.copy()


def by(shape: tuple[int, ...]) -> str:
    """Return a shape for people, such as 1065 × 1030."""
    return " × ".join(map(str, shape))
