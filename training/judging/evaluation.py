"""A network on a labelled set: its tiles, and the mosaics that they make, against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from model.bundle import TrustDescription
from training.datasets.labelled import LabelledSet
from training.judging.metrics import ImageFigures, TileFigures, circular_figures, judge_image, judge_tiles
from training.judging.predictor import Predict, Predictor
from training.judging.said import Said
from training.judging.spectrum import BandShares, band_shares, power_spectrum, radial_mean
from training.judging.stitching import Stitched, stitch_as_paper, stitch_on_circle
from training.judging.stopwatch import Spent, timed

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
Stitch = Callable[[Float32 | None, Float32], Stitched]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(what is done, how many) → a context whose function is told how many more are done."""

BATCH = 32
KEPT_SHARE = 3 / 4  # of a tile's edge in the paper's stitching: 48 of 64 pixels
DARK = 0.02  # of one tile's brightest: less light than this says nothing


@contextmanager
def silent(_: str, __: int) -> Iterator[Callable[[int], None]]:
    """Show no progress."""
    yield lambda _: None


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a network made of frames.

    Attributes:
        amplitude: (n, h, w) float32, None from a network that predicts phase only.
        phase_rad: (n, h, w) float32.
        seconds: that the network took, without its first, untimed batch.
        spread_rad: (n, h, w) float32 circular standard deviation of the phase; None: it does not say.
        residual: (n,) float32 forward residuals; None: it does not say.
        processor_seconds: of the same work.
        radius: (n, h, w) float32 √(c² + s²) before the projection onto the circle; None: it is not seen.
    """

    amplitude: Float32 | None
    phase_rad: Float32
    seconds: float
    spread_rad: Float32 | None = None
    residual: Float32 | None = None
    radius: Float32 | None = None
    processor_seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """Of the network alone."""
        return len(self.phase_rad) / self.seconds

    @property
    def tile_shape(self) -> tuple[int, int]:
        """(h, w) of the tiles."""
        return (self.phase_rad.shape[1], self.phase_rad.shape[2])


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """How the phase's power spreads over spatial frequency.

    Attributes:
        frequency: (rings,) cycles a pixel.
        power: (rings,) mean of the power spectrum.
        shares: of the energy in three bands.
    """

    frequency: Float64
    power: Float64
    shares: BandShares


@dataclass(frozen=True, slots=True, eq=False)
class JudgedMosaic:
    """A mosaic beside the truth.

    Attributes:
        stitched: the mosaic.
        where: (Y, X) bool, the pixels that are judged.
        figures: of the mosaic.
        truth_spectrum, spectrum: of the wrapped phases on the box around `where`, one global phase removed.
    """

    stitched: Stitched
    where: Mask
    figures: ImageFigures
    truth_spectrum: Spectrum
    spectrum: Spectrum


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A network on frames of a labelled set.

    Attributes:
        name: of the set.
        painted: the tiles.
        true_amplitude, true_phase_rad: (n, h, w) float32 of the same tiles.
        tiles: figures of the tiles.
        tile_rms_rad: (n,) circular phase error of each tile under the weight, one phase removed from each.
        paper: the mosaic as arXiv 2604.26664 stitches it.
        circle: the mosaic as the service stitches it, phases averaged as phasors.
    """

    name: str
    painted: Painted
    true_amplitude: Float32
    true_phase_rad: Float32
    tiles: TileFigures
    tile_rms_rad: Float64
    paper: JudgedMosaic
    circle: JudgedMosaic


def transmission(amplitude: Float32 | None, phase_rad: Float32) -> NDArray[np.complex64]:
    """Return A·exp(iφ) of any one shape; the amplitude is 1 where a network does not predict it."""
    phasor: NDArray[np.complex64] = np.exp(1j * phase_rad).astype(np.complex64)
    return phasor if amplitude is None else amplitude * phasor


def paint(predict: Predict, counts: NDArray[Any], progress: Progress = silent, batch: int = BATCH) -> Painted:
    """Run a network over frames.

    Args:
        predict: the network.
        counts: (n, H, W) photons a pixel.
        progress: told of frames painted.
        batch: frames at once.
    """
    parts: list[Said] = []
    spent = Spent()
    predict(_batch(counts, 0, batch))  # the first run allocates
    with progress("painting", len(counts)) as advance:
        for start in range(0, len(counts), batch):
            some = _batch(counts, start, batch)
            said, took = timed(partial(predict, some))
            parts.append(Said(*said))
            spent += took
            advance(len(some))
    return Painted(
        amplitude=_joined([said.amplitude for said in parts]),
        phase_rad=np.concatenate([said.phase_rad for said in parts]),
        seconds=spent.wall_s,
        processor_seconds=spent.processor_s,
        spread_rad=_joined([said.spread_rad for said in parts]),
        residual=_joined([said.residual for said in parts]),
        radius=_joined([said.radius for said in parts]),
    )


def find_trust(model: Predictor, progress: Progress = silent) -> TrustDescription | None:
    """Return when a model is to be believed, None where nobody knows; a checkpoint takes its time."""
    with progress("calibrating", 1) as advance:
        trust = model.calibrate()
        advance(1)
    return trust


def evaluate_set(
    predict: Predict,
    data: LabelledSet,
    indices: Indices,
    *,
    weight: Float32 | None = None,
    where: Mask | None = None,
    gauge: bool = False,
    keep_px: int | None = None,
    batch: int = BATCH,
    progress: Progress = silent,
) -> Evaluation:
    """Judge a network on frames of a labelled set, tile by tile and as two mosaics.

    Args:
        predict: the network; it says what the labels' numbers say.
        data: frames and truth.
        indices: (n,) of the frames to judge.
        weight: (h, w) of a tile in the mosaic on the circle; 1 everywhere where None.
        where: (Y, X) bool, where the truth is good; everywhere where None.
        gauge: turn each tile by the one angle that fits it best to the mosaic on the circle under it.
        keep_px: edge of a tile's middle that the paper's stitching uses; three quarters where None.
        batch: frames at once.
        progress: told of frames painted.

    Raises:
        ValueError: tiles and truth do not fit each other, or nothing is left to compare.
    """
    painted = paint(predict, data.counts[indices], progress, batch)
    return judge_painted(painted, data, indices, weight=weight, where=where, gauge=gauge, keep_px=keep_px)


def judge_painted(
    painted: Painted,
    data: LabelledSet,
    indices: Indices,
    *,
    weight: Float32 | None = None,
    where: Mask | None = None,
    gauge: bool = False,
    keep_px: int | None = None,
) -> Evaluation:
    """Judge tiles, wherever they come from, on frames of a labelled set; arguments as of `evaluate_set`.

    Raises:
        ValueError: tiles and truth do not fit each other, or nothing is left to compare.
    """
    truth = data.amplitude[indices], data.phase_rad[indices]
    corners, shape = data.corners_px[indices], _field_shape(data)
    kept = keep_px or round(KEPT_SHARE * min(painted.tile_shape))

    def as_paper(amplitude: Float32 | None, phase_rad: Float32) -> Stitched:
        return stitch_as_paper(amplitude, phase_rad, corners, shape, kept)

    def on_circle(amplitude: Float32 | None, phase_rad: Float32) -> Stitched:
        return stitch_on_circle(amplitude, phase_rad, corners, shape, weight, gauge=gauge)

    return Evaluation(
        name=data.name,
        painted=painted,
        true_amplitude=truth[0],
        true_phase_rad=truth[1],
        tiles=judge_tiles(painted.amplitude, painted.phase_rad, *truth),
        tile_rms_rad=rms_of_tiles(painted.phase_rad, truth[1], weight),
        paper=_judge_mosaic(as_paper, painted, data, truth, where),
        circle=_judge_mosaic(on_circle, painted, data, truth, where),
    )


def _batch(counts: NDArray[Any], start: int, batch: int) -> Float32:
    return counts[start : start + batch, None].astype(np.float32)


def _joined(planes: list[Float32 | None]) -> Float32 | None:
    """Return the batches of one plane as one, None where the network does not say it."""
    said = [plane for plane in planes if plane is not None]
    return np.concatenate(said) if said else None


def rms_of_tiles(phase_rad: Float32, truth_rad: Float32, weight: Float32 | None) -> Float64:
    """Return the circular RMS phase error of each tile (n,) under a weight, one phase removed from each.

    Args:
        phase_rad: (n, h, w), estimated.
        truth_rad: (n, h, w).
        weight: (h, w), 1 everywhere where None.
    """
    pairs = zip(phase_rad, truth_rad, strict=True)
    return np.array([circular_figures(estimate, truth, weight).rms_rad for estimate, truth in pairs])


def _field_shape(data: LabelledSet) -> tuple[int, int]:
    if data.truth_phase_rad is not None:
        return (data.truth_phase_rad.shape[0], data.truth_phase_rad.shape[1])
    rows, columns = data.corners_px.max(axis=0) + np.array(data.tile_shape)
    return int(rows), int(columns)


def _judge_mosaic(
    stitch: Stitch, painted: Painted, data: LabelledSet, tiles: tuple[Float32, Float32], where: Mask | None
) -> JudgedMosaic:
    stitched = stitch(painted.amplitude, painted.phase_rad)
    amplitude, phase_rad = _true_field(stitch, data, tiles)
    lit = stitched.coverage > DARK
    seen = lit if where is None else lit & where
    # the plain figures are of a whole box: a pixel that no tile painted must not count as a painted 0
    whole_amplitude = None if stitched.amplitude is None else np.where(lit, stitched.amplitude, amplitude)
    whole_phase_rad = np.where(lit, stitched.phase_rad, phase_rad)
    figures = judge_image(whole_amplitude, whole_phase_rad, amplitude, phase_rad, seen)
    box = find_objects(seen.astype(np.uint8))[0]
    turned = whole_phase_rad[box] + np.float32(figures.circular.global_phase_rad)
    return JudgedMosaic(stitched, seen, figures, _spectrum_of(phase_rad[box]), _spectrum_of(turned))


def _true_field(stitch: Stitch, data: LabelledSet, tiles: tuple[Float32, Float32]) -> tuple[Float32, Float32]:
    """Return the whole truth; where only its tiles are known, what they make when stitched alike."""
    if data.truth_amplitude is not None and data.truth_phase_rad is not None:
        return data.truth_amplitude, data.truth_phase_rad
    field = stitch(*tiles)
    return (tiles[0] if field.amplitude is None else field.amplitude), field.phase_rad


def _spectrum_of(phase_rad: Float32) -> Spectrum:
    """Return the spectrum of a phase image (h, w), wrapped, so that estimate and truth jump alike."""
    wrapped = np.angle(np.exp(1j * phase_rad))
    return Spectrum(*radial_mean(power_spectrum(wrapped)), band_shares(wrapped))
