"""A reconstruction of a labelled set's object, as the tiles that a network would paint of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.judge import align_global_phase
from training.datasets.labelled import LabelledSet, cut_tiles
from training.datasets.splits import Indices, object_pixels
from training.judging.evaluation import Painted, paint, transmission
from training.judging.iterative import Engine, IterativeSettings, reconstruct
from training.judging.predictor import Predict
from training.judging.stitching import stitch_on_circle

BATCH = 128  # frames at once


def paint_iteratively(
    data: LabelledSet, frames: Indices, engine: Engine, iterations: int
) -> tuple[Painted, float]:
    """Reconstruct an object from some frames and their known probe, and cut it into tiles.

    The object comes without its absolute phase, which a network takes from its labels: it is turned by the
    one angle that fits the truth best.

    Args:
        data: a set with probe and truth.
        frames: (n,) indices of the frames that the object is reconstructed from.
        engine: of pty-chi.
        iterations: passes over the frames.

    Returns:
        The tiles in the labels' units, with the seconds that the iterations took; and the forward residual.

    Raises:
        ValueError: probe or truth is not known.
    """
    probe, truth = known_physics(data)
    found = reconstruct(
        data.in_photons().counts[frames],
        data.corners_px[frames].astype(np.float64),
        probe,
        IterativeSettings(engine, iterations, BATCH, update_probe=False),
        object_shape=(truth.shape[0], truth.shape[1]),
    )
    return cut_object(found.object, data, frames, found.seconds), found.residuals[found.iterations]


def paint_physically(predict: Predict, data: LabelledSet, frames: Indices) -> Painted:
    """Stitch what a network of the set's probe says of some frames, and cut the mosaic into tiles.

    It knows the object's transmission and not the numbers of the labels, nor an absolute phase: tiles are
    turned to fit each other, and the mosaic by the one angle that fits the truth best.

    Args:
        predict: the network, of photons.
        data: a set with probe and truth.
        frames: (n,) indices.

    Returns:
        The tiles in the labels' units, with the seconds that the network took.

    Raises:
        ValueError: probe or truth is not known, or the network paints other tiles than the set has.
    """
    probe, truth = known_physics(data)
    painted = paint(predict, data.in_photons().counts[frames])
    if painted.tile_shape != data.tile_shape:
        raise ValueError(f"{data.name}: tiles of {painted.tile_shape}, the set has {data.tile_shape}")
    mosaic = stitch_on_circle(
        painted.amplitude,
        painted.phase_rad,
        data.corners_px[frames],
        (truth.shape[0], truth.shape[1]),
        probe_weight(probe, painted.tile_shape),
        gauge=True,
    )
    return cut_object(transmission(mosaic.amplitude, mosaic.phase_rad), data, frames, painted.seconds)


def known_physics(data: LabelledSet) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the probe (M, H, W) and the true transmission (Y, X).

    Raises:
        ValueError: probe or truth is not known.
    """
    if data.probe is None or data.truth_amplitude is None or data.truth_phase_rad is None:
        raise ValueError(f"{data.name}: a reconstruction is judged with the probe and the truth")
    return data.probe, data.units.transmission(data.truth_amplitude, data.truth_phase_rad)


def cut_object(found: NDArray[np.complex64], data: LabelledSet, frames: Indices, seconds: float) -> Painted:
    """Turn an object (Y, X) by the one angle that fits the truth best; cut it into tiles of labels' units.

    Raises:
        ValueError: the truth is not known.
    """
    _, truth = known_physics(data)
    seen = np.zeros(truth.shape, bool)
    held = object_pixels(data, frames)
    seen[: held.shape[0], : held.shape[1]] = held
    labels = data.units.labels(align_global_phase(found, truth, seen))
    amplitude, phase_rad = (cut_tiles(image, data.corners_px[frames], data.tile_shape[0]) for image in labels)
    return Painted(amplitude, phase_rad, seconds)
