"""An iterative reconstruction of a labelled set's frames, as the tiles that a network would paint."""

from __future__ import annotations

import numpy as np

from model.judge import align_global_phase
from training.datasets.labelled import LabelledSet, cut_tiles
from training.datasets.splits import Indices, object_pixels
from training.judging.evaluation import Painted
from training.judging.iterative import Engine, IterativeSettings, reconstruct

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
    if data.probe is None or data.truth_amplitude is None or data.truth_phase_rad is None:
        raise ValueError(f"{data.name}: an iterative reconstruction is judged with the probe and the truth")
    truth = data.units.transmission(data.truth_amplitude, data.truth_phase_rad)
    found = reconstruct(
        data.in_photons().counts[frames],
        data.corners_px[frames].astype(np.float64),
        data.probe,
        IterativeSettings(engine, iterations, BATCH, update_probe=False),
        object_shape=(truth.shape[0], truth.shape[1]),
    )
    seen = np.zeros(truth.shape, bool)
    held = object_pixels(data, frames)
    seen[: held.shape[0], : held.shape[1]] = held
    labels = data.units.labels(align_global_phase(found.object, truth, seen))
    amplitude, phase_rad = (cut_tiles(image, data.corners_px[frames], data.tile_shape[0]) for image in labels)
    return Painted(amplitude, phase_rad, found.seconds), found.residuals[found.iterations]
