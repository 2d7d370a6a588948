"""What foretells where a network is wrong: six candidates, each ranked against the true error.

None of them needs the truth, so the service can show each. Where the error is greater the doubt should be
too: Spearman's rank correlation (Kendall & Gibbons, Rank Correlation Methods, 5th ed. (1990), sec. 1.14) asks
for no more than that. The calibration curve asks whether the error that is expected is the one that is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from model.bundle import TrustDescription
from model.judge import align_global_phase, circular_error
from model.trust import tile_confidence
from training.judging.evaluation import Float32, Float64, Painted, transmission
from training.judging.painted_scan import PaintedScan
from training.judging.stitching import Stitched, average, stitch_on_circle

Real = NDArray[np.floating[Any]]

RESIDUAL, AGREEMENT, RADIUS, SPREAD, CONFIDENCE, SHOWN = CANDIDATES = (
    "forward residual",
    "agreement of the tiles",
    "radius before projection",
    "network's own spread",
    "calibrated tile confidence",
    "live confidence map",
)
BLOCK_PX = 4  # a mosaic is judged in squares of this edge: neighbouring pixels err alike
BINS = 10
_LEAST = 1e-6  # of a confidence or agreement: its logarithm stays finite


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """What one candidate says of one scan; the greater, the worse.

    Attributes:
        frames: (n,) float64.
        blocks: (b,) float64, of the mosaic's judged blocks.
    """

    frames: Float64
    blocks: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Foretold:
    """What was said of the errors of one scan, beside the errors.

    Attributes:
        error_rad: the true errors: root mean square of each tile under the light, one phase removed from
            each; of the blocks of the mosaic, one phase removed from all.
        expected_rad: the errors to expect by the live confidence map, as circular standard deviations.
        doubts: by each candidate that is known, by its name in `CANDIDATES`; the live confidence map is the
            tiles' confidence times their agreement, as the service shows it, and the agreement alone where
            the tiles have none.
    """

    error_rad: Doubt
    expected_rad: Doubt
    doubts: Mapping[str, Doubt]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well a candidate ranks errors, Spearman's ρ; None where it is not known or all is equal.

    Attributes:
        candidate: its name.
        frames: of all frames of all scans.
        blocks: of all blocks of all mosaics.
        blocks_within: of the blocks of one mosaic, median over the mosaics.
    """

    candidate: str
    frames: float | None
    blocks: float | None
    blocks_within: float | None


def foretell(scan: PaintedScan, trust: TrustDescription | None, block_px: int = BLOCK_PX) -> Foretold:
    """Set what is said of a scan's errors beside the errors.

    The mosaic is stitched as the service does it: on the circle, under the probe's light, to a fraction of a
    pixel.

    Args:
        scan: painted.
        trust: the model's calibration, None where nobody knows.
        block_px: edge of the blocks of the mosaic.

    Raises:
        ValueError: no block is judged whole.
    """
    lifted, inner = scan.corners_px + 1, np.s_[1:-1, 1:-1]  # room for what straddles the field's rim
    roomy = (scan.shape[0] + 2, scan.shape[1] + 2)

    def over_field(values: Real) -> Real:
        return average(values, lifted, roomy, scan.weight)[inner]

    def blocks(image: Real) -> Float64:
        return block_means(image, scan.where, block_px)

    painted = scan.painted
    stitched = stitch_on_circle(painted.amplitude, painted.phase_rad, lifted, roomy, scan.weight)
    agreement = np.asarray(stitched.agreement)[inner]
    believed = tile_confidence(painted.residual, trust)
    confidence = None if believed is None else believed[:, None, None]
    shown = agreement if confidence is None else agreement * over_field(confidence)
    doubts = {
        name: Doubt(_under_light(values, scan.weight), blocks(over_field(values)))
        for name, values in _tile_planes(painted, confidence).items()
    }
    for name, map_ in ((AGREEMENT, agreement), (SHOWN, shown)):
        doubts[name] = Doubt(_under_light(_windows(1 - map_, scan), scan.weight), blocks(1 - map_))
    error = _mosaic_error(stitched, scan)
    return Foretold(
        error_rad=Doubt(scan.tile_rms_rad(), np.sqrt(blocks(np.square(error)))),
        expected_rad=Doubt(
            *(_circular_std_rad(said) for said in (doubts[SHOWN].frames, doubts[SHOWN].blocks))
        ),
        doubts=doubts,
    )


def rank(scans: Sequence[Foretold]) -> tuple[Ranking, ...]:
    """Return how well each candidate ranks the errors of scans; one that any scan lacks is not known."""
    return tuple(_ranking(name, scans) for name in CANDIDATES)


def calibration_curve(expected_rad: Real, error_rad: Real, bins: int = BINS) -> Float64:
    """Return root mean square (expected, true) errors (bins, 2) of equally many, in the order expected.

    Args:
        expected_rad: (n,).
        error_rad: (n,) true ones of the same.
        bins: how many rows, at most n.
    """
    order = np.array_split(np.argsort(expected_rad, kind="stable"), min(bins, len(expected_rad)))
    pairs = np.stack([expected_rad, error_rad], axis=1)
    return np.array([np.sqrt(np.mean(np.square(pairs[some]), axis=0)) for some in order])


def block_means(image: Real, where: NDArray[np.bool_], block_px: int) -> Float64:
    """Return the means of an image (Y, X) over the square blocks (b,) that a mask holds whole.

    Raises:
        ValueError: it holds none.
    """
    rows, columns = (side // block_px for side in where.shape)
    squares = rows, block_px, columns, block_px
    kept = np.s_[: rows * block_px, : columns * block_px]
    whole = where[kept].reshape(squares).all(axis=(1, 3))
    if not whole.any():
        raise ValueError(f"no block of {block_px} × {block_px} pixels is lit whole: is the scan too small?")
    means: Float64 = image[kept].astype(np.float64).reshape(squares).mean(axis=(1, 3))[whole]
    return means


def _tile_planes(painted: Painted, confidence: Float32 | None) -> dict[str, Real]:
    """Return what is known of each tile, (n, h, w) or (n, 1, 1), the greater, the worse."""
    known: dict[str, Real | None] = {
        RESIDUAL: None if painted.residual is None else painted.residual[:, None, None],
        RADIUS: None if painted.radius is None else np.sqrt(2) - painted.radius,
        SPREAD: painted.spread_rad,
        CONFIDENCE: None if confidence is None else 1 - confidence,
    }
    return {name: values for name, values in known.items() if values is not None}


def _under_light(values: Real, weight: Real) -> Float64:
    """Return the mean of tiles' values (n, h, w) or (n, 1, 1) under the light (h, w): (n,)."""
    whole = np.broadcast_to(values, (len(values), *weight.shape))
    mean: Float64 = np.einsum("nyx,yx->n", whole, weight.astype(np.float64) / weight.sum(dtype=np.float64))
    return mean


def _windows(image: Real, scan: PaintedScan) -> Real:
    """Return the windows (n, h, w) of an image that lie under the tiles."""
    views = np.lib.stride_tricks.sliding_window_view(image, scan.weight.shape)
    rows, columns = scan.whole_corners_px.T
    windows: Real = views[rows, columns]
    return windows


def _mosaic_error(stitched: Stitched, scan: PaintedScan) -> Real:
    """Return the circular phase error (Y, X) of the mosaic, turned by one phase onto the truth."""
    inner = np.s_[1:-1, 1:-1]
    amplitude = None if stitched.amplitude is None else stitched.amplitude[inner]
    mosaic = align_global_phase(transmission(amplitude, stitched.phase_rad[inner]), scan.truth, scan.where)
    return circular_error(np.angle(mosaic), np.angle(scan.truth))


def _circular_std_rad(shortfall: Float64) -> Float64:
    """Return √(−2·ln R) of a mean resultant length R = 1 − shortfall (Mardia & Jupp, 2000, eq. 2.3.11)."""
    std_rad: Float64 = np.sqrt(-2 * np.log(np.clip(1 - shortfall, _LEAST, 1.0)))
    return std_rad


def _ranking(name: str, scans: Sequence[Foretold]) -> Ranking:
    if not all(name in scan.doubts for scan in scans):
        return Ranking(name, None, None, None)
    pairs = [(scan.doubts[name], scan.error_rad) for scan in scans]
    within = [rho for said, true in pairs if (rho := _spearman(said.blocks, true.blocks)) is not None]
    said_frames, true_frames = (np.concatenate([pair[i].frames for pair in pairs]) for i in (0, 1))
    said_blocks, true_blocks = (np.concatenate([pair[i].blocks for pair in pairs]) for i in (0, 1))
    return Ranking(
        candidate=name,
        frames=_spearman(said_frames, true_frames),
        blocks=_spearman(said_blocks, true_blocks),
        blocks_within=float(np.median(within)) if within else None,
    )


def _spearman(said: Float64, true: Float64) -> float | None:
    if not (np.ptp(said) and np.ptp(true)):
        return None
    return float(spearmanr(said, true).statistic)
