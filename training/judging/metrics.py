"""Figures of merit of tiles and mosaics: the paper's plain ones, and those that know what a phase is.

The plain figures (arXiv 2604.26664, tables I–V) compare phases as numbers: no wrap, no alignment. An object
is known up to one global phase and a phase up to 2π, so the circular figures stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.judge import (
    ONE_SEVENTH,
    align_global_phase,
    circular_error,
    fourier_ring_correlation,
    phase_correlation,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Real = NDArray[np.floating[Any]]
Complex = NDArray[np.complexfloating[Any, Any]]
Mask = NDArray[np.bool_]
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class PlainFigures:
    """An image against the truth, number by number.

    Attributes:
        mse, mae: mean square and mean absolute difference.
        psnr_db: peak signal to noise ratio; infinite where the images are equal, nan where the truth is flat.
        ssim: mean structural similarity; nan where the truth is flat.
    """

    mse: float
    mae: float
    psnr_db: float
    ssim: float


@dataclass(frozen=True, slots=True)
class CircularFigures:
    """A phase against the truth on the circle, after one global phase was removed.

    Attributes:
        rms_rad, mae_rad: root mean square and mean absolute circular error.
        correlation: Pearson's, of the phases; 0 where one of them is flat.
        global_phase_rad: α*, which was added to the estimate.
    """

    rms_rad: float
    mae_rad: float
    correlation: float
    global_phase_rad: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over tiles; `count` of them had a finite value, nan where none had."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True, slots=True)
class PlainSpreads:
    """`PlainFigures` of many tiles."""

    mse: Spread
    mae: Spread
    psnr_db: Spread
    ssim: Spread


@dataclass(frozen=True, slots=True)
class BothRanges(Generic[F]):
    """Plain figures in two conventions of the data range, which only PSNR and SSIM depend on.

    Attributes:
        truth: greatest less least value of the truth where it is compared, a tile's own for a tile (the
            paper's); a tile with little contrast is judged hard.
        fixed: one range for all: 1 for amplitude, that of the whole true phase for phase.
    """

    truth: F
    fixed: F


@dataclass(frozen=True, slots=True)
class TileFigures:
    """Figures of a set of tiles.

    Attributes:
        amplitude: None for a method that predicts phase only.
        phase: of the plain differences of the phases.
        circular_rms_rad: after one global phase was removed from each tile.
        circular_rms_unaligned_rad: as predicted.
    """

    amplitude: BothRanges[PlainSpreads] | None
    phase: BothRanges[PlainSpreads]
    circular_rms_rad: Spread
    circular_rms_unaligned_rad: Spread


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """Figures of a stitched field.

    Attributes:
        amplitude: on the bounding box of the mask; None for a method that predicts phase only.
        phase: of the plain differences, on the bounding box.
        circular: under the mask.
        circular_rms_unaligned_rad: under the mask, as predicted.
        half_bit_px, one_seventh_px: half the period, in pixels, of the finest detail on the bounding box
            whose Fourier ring correlation is above half a bit of information, and above 1/7.
        pixels: how many the mask holds.
    """

    amplitude: BothRanges[PlainFigures] | None
    phase: BothRanges[PlainFigures]
    circular: CircularFigures
    circular_rms_unaligned_rad: float
    half_bit_px: float
    one_seventh_px: float
    pixels: int


def plain_figures(estimate: Real, truth: Real, data_range: float | None = None) -> PlainFigures:
    """Compare two images number by number, with scikit-image's defaults, as the paper does.

    SSIM is the mean over 7 × 7 windows (Wang et al., IEEE Trans. Image Process. 13, 600 (2004)). The
    paper's released code (carson-liu/CPR) takes a range of 1 for a flat truth; here that is nan, as any
    number would say more about the choice than about the image.

    Args:
        estimate: (h, w).
        truth: (h, w).
        data_range: greatest less least value that can be; that of the truth where None.

    Raises:
        ValueError: the shapes differ, or the images are smaller than the window of 7 pixels.
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"an image of {estimate.shape} pixels cannot be compared with one of {truth.shape}")
    estimate, truth = estimate.astype(np.float64), truth.astype(np.float64)
    peak = float(np.ptp(truth)) if data_range is None else data_range
    difference = estimate - truth
    return PlainFigures(
        mse=float(np.mean(np.square(difference))),
        mae=float(np.mean(np.abs(difference))),
        psnr_db=_psnr_db(estimate, truth, peak),
        ssim=_ssim(estimate, truth, peak),
    )


def circular_figures(
    estimate_rad: Real,
    truth_rad: Real,
    weight: Real | None = None,
    *,
    true_amplitude: Real | None = None,
    estimated_amplitude: Real | None = None,
) -> CircularFigures:
    """Compare two phases on the circle, after removing the one global phase α* = arg Σ w·O_true·conj(Ô).

    Args:
        estimate_rad: phase of any shape.
        truth_rad: of the same shape.
        weight: of the same shape, not negative, how much a pixel counts for all but the correlation, which
            is that of all pixels with any weight; 1 where None.
        true_amplitude: of the object that α* is taken of, which it weighs, and nothing else; 1 where None.
        estimated_amplitude: likewise.

    Raises:
        ValueError: no pixel has weight.
    """
    weight = np.ones(truth_rad.shape) if weight is None else weight
    seen = weight > 0
    if not seen.any():
        raise ValueError("no pixel to compare: does the mask or weight lie on the object?")
    truth = _transmission(true_amplitude, truth_rad)[seen]
    estimate = _transmission(estimated_amplitude, estimate_rad)[seen]
    estimate_rad, truth_rad, weight = estimate_rad[seen], truth_rad[seen], weight[seen]
    global_phase_rad = float(np.angle(np.vdot(estimate, weight * truth)))
    error = circular_error(estimate_rad + global_phase_rad, truth_rad)
    return CircularFigures(
        rms_rad=_rms(error, weight),
        mae_rad=float(np.average(np.abs(error), weights=weight)),
        correlation=phase_correlation(np.exp(1j * estimate_rad), np.exp(1j * truth_rad)),
        global_phase_rad=global_phase_rad,
    )


def spread(values: Iterable[float]) -> Spread:
    """Return mean and (population) standard deviation of the finite values, and how many there are."""
    numbers = np.fromiter(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return Spread(math.nan, math.nan, 0)
    return Spread(float(finite.mean()), float(finite.std()), finite.size)


def judge_tiles(
    amplitude: Real | None, phase_rad: Real, true_amplitude: Real, true_phase_rad: Real
) -> TileFigures:
    """Return the figures of a set of tiles, each (N, h, w).

    Raises:
        ValueError: the shapes differ, or the tiles are smaller than SSIM's window of 7 pixels.
    """
    _refuse_other_shape(true_phase_rad, amplitude, phase_rad, true_amplitude)
    turned = list(_circular_of_tiles(amplitude, phase_rad, true_amplitude, true_phase_rad))
    unaligned = circular_error(phase_rad, true_phase_rad)
    return TileFigures(
        amplitude=None if amplitude is None else _plain_of_tiles(amplitude, true_amplitude, 1.0),
        phase=_plain_of_tiles(phase_rad, true_phase_rad, float(np.ptp(true_phase_rad))),
        circular_rms_rad=spread(figures.rms_rad for figures in turned),
        circular_rms_unaligned_rad=spread(_rms(error) for error in unaligned),
    )


def judge_image(
    amplitude: Real | None, phase_rad: Real, true_amplitude: Real, true_phase_rad: Real, where: Mask
) -> ImageFigures:
    """Return the figures of a stitched field where the mask says, each (Y, X).

    The Fourier ring correlation is of A·exp(iφ), without the amplitudes for a method that predicts phase
    only, after the global phase under the mask was removed.

    Raises:
        ValueError: the shapes differ, or the bounding box of the mask is smaller than SSIM's window of
            7 pixels.
    """
    _refuse_other_shape(true_phase_rad, amplitude, phase_rad, true_amplitude, where)
    if not where.any():
        raise ValueError("no pixel to compare: does the mosaic lie on the truth?")
    box = find_objects(where.astype(np.uint8))[0]
    truth = _transmission(None if amplitude is None else true_amplitude, true_phase_rad)
    estimate = align_global_phase(_transmission(amplitude, phase_rad), truth, where)
    rings = fourier_ring_correlation(estimate[box], truth[box])
    full_range_rad = float(np.ptp(true_phase_rad))
    return ImageFigures(
        amplitude=None if amplitude is None else _plain_of_image(amplitude[box], true_amplitude[box], 1.0),
        phase=_plain_of_image(phase_rad[box], true_phase_rad[box], full_range_rad),
        circular=circular_figures(
            phase_rad,
            true_phase_rad,
            where.astype(np.float64),
            true_amplitude=true_amplitude,
            estimated_amplitude=amplitude,
        ),
        circular_rms_unaligned_rad=_rms(circular_error(phase_rad, true_phase_rad)[where]),
        half_bit_px=rings.resolution_px(rings.half_bit),
        one_seventh_px=rings.resolution_px(ONE_SEVENTH),
        pixels=int(where.sum()),
    )


def as_json(figures: DataclassInstance) -> dict[str, Any]:
    """Return a dataclass of figures as plain values; what JSON cannot hold, nan and infinity, is None."""
    return asdict(figures, dict_factory=_json_object)


def _json_object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in items
    }


def _psnr_db(estimate: Real, truth: Real, peak: float) -> float:
    if peak <= 0:
        return math.nan
    with np.errstate(divide="ignore"):  # equal images have no noise
        # scikit-image says that it is typed, but these functions are not
        return float(peak_signal_noise_ratio(truth, estimate, data_range=peak))  # type: ignore[no-untyped-call]


def _ssim(estimate: Real, truth: Real, peak: float) -> float:
    if peak <= 0:
        return math.nan
    return float(structural_similarity(truth, estimate, data_range=peak))  # type: ignore[no-untyped-call]


def _plain_of_image(estimate: Real, truth: Real, full_range: float) -> BothRanges[PlainFigures]:
    return BothRanges(plain_figures(estimate, truth), plain_figures(estimate, truth, full_range))


def _plain_of_tiles(estimate: Real, truth: Real, full_range: float) -> BothRanges[PlainSpreads]:
    tiles = [_plain_of_image(*pair, full_range) for pair in zip(estimate, truth, strict=True)]
    return BothRanges(_spreads([tile.truth for tile in tiles]), _spreads([tile.fixed for tile in tiles]))


def _spreads(tiles: list[PlainFigures]) -> PlainSpreads:
    return PlainSpreads(
        mse=spread(tile.mse for tile in tiles),
        mae=spread(tile.mae for tile in tiles),
        psnr_db=spread(tile.psnr_db for tile in tiles),
        ssim=spread(tile.ssim for tile in tiles),
    )


def _circular_of_tiles(
    amplitude: Real | None, phase_rad: Real, true_amplitude: Real, true_phase_rad: Real
) -> Iterator[CircularFigures]:
    for k, (estimate_rad, truth_rad) in enumerate(zip(phase_rad, true_phase_rad, strict=True)):
        yield circular_figures(
            estimate_rad,
            truth_rad,
            true_amplitude=true_amplitude[k],
            estimated_amplitude=None if amplitude is None else amplitude[k],
        )


def _transmission(amplitude: Real | None, phase_rad: Real) -> Complex:
    phasor: Complex = np.exp(1j * phase_rad)
    return phasor if amplitude is None else amplitude * phasor


def _rms(error: Real, weight: Real | None = None) -> float:
    return math.sqrt(np.average(np.square(error), weights=weight))


def _refuse_other_shape(truth: Real, *others: Real | Mask | None) -> None:
    wrong = [other.shape for other in others if other is not None and other.shape != truth.shape]
    if wrong:
        raise ValueError(f"a truth of {truth.shape} cannot be compared with {wrong[0]}")
