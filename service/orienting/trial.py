"""How frames and positions must be turned: every way tried on a few frames of a scan.

A single frame tells its own orientation: its forward residual is least where the network and the probe know
the light. It does not tell how positions lie. Those are judged by the frames' tiles stitched at them: where
the axes are wrong neighbouring tiles spoil each other, and the stitched object explains the frames no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.orientation import Orientation
from service.engine import Engine, Inferred, forward_residuals
from service.messages import Float32, Float64, Tiles
from service.mosaic import Mosaic
from service.orientations import best_first, contenders, finite_median, orientation_residuals

_FRAMES_TURNED: Final = 4  # that are tried in each orientation
_FRAMES_JUDGED: Final = 16  # that are compared with the stitched object
_FRAMES_AT_ONCE: Final = 16

Pair = tuple[Orientation, Orientation]  # done to the frames, done to the positions


@dataclass(frozen=True, slots=True)
class OrientTrial:
    """What came out.

    Attributes:
        frames: median forward residual of single frames by what was done to them, best first.
        stitched: median forward residual of the stitched object by what was done to frames and positions,
            best first; only for orientations of the frames that are not clearly worse than the best.
    """

    frames: dict[Orientation, float]
    stitched: dict[Pair, float]

    @property
    def answers(self) -> list[Pair]:
        """The best pair, and those that cannot be told from it; none where nothing is explained at all."""
        return contenders(self.stitched)


def try_orientations(
    engine: Engine, counts: NDArray[Any], positions_m: Float64, object_pixel_m: float
) -> OrientTrial:
    """Try all orientations of some frames, and with the best of them all of their positions.

    Args:
        engine: runs the network.
        counts: (n, 1, H, W) as the engine takes them, turned as they are sent.
        positions_m: (n, 2) probe centres y, x as they are sent.
        object_pixel_m: pixel of the object, metres.

    Raises:
        EngineError: the network does not run.
    """

    def explain(turned: NDArray[Any]) -> Float32:
        return forward_residuals(engine.bundle, engine.infer(turned), turned)

    frames = orientation_residuals(counts[_evenly(len(counts), _FRAMES_TURNED)], explain)
    stitched: dict[Pair, float] = {}
    for way in contenders(frames):
        turned = np.ascontiguousarray(way.of(counts))
        tiles = _infer(engine, turned, positions_m)
        for axes in Orientation:
            stitched[way, axes] = _stitched_residual(engine, tiles, axes, turned, object_pixel_m)
    return OrientTrial(frames, best_first(stitched))


def _infer(engine: Engine, counts: NDArray[Any], positions_m: Float64) -> Tiles:
    starts = range(0, len(counts), _FRAMES_AT_ONCE)
    found = [engine.infer(counts[start : start + _FRAMES_AT_ONCE]) for start in starts]
    amplitude, cos, sin = (
        np.concatenate([getattr(part, plane) for part in found]) for plane in ("amplitude", "cos", "sin")
    )
    numbers = np.arange(len(counts))
    return Tiles("", numbers, positions_m, amplitude, cos, sin, received_ns=np.zeros_like(numbers))


def _stitched_residual(
    engine: Engine, tiles: Tiles, axes: Orientation, counts: NDArray[Any], object_pixel_m: float
) -> float:
    """Return how well the object explains the frames when tiles are stitched at turned positions."""
    bundle = engine.bundle
    tile_shape = bundle.description.tile_shape
    mosaic = Mosaic(object_pixel_m, probe_weight(bundle.probe, tile_shape))
    positions_m = axes.of_positions(tiles.positions_m)
    placed = mosaic.add(
        Tiles("", tiles.indices, positions_m, tiles.amplitude, tiles.cos, tiles.sin, tiles.received_ns)
    ).stitched
    judged = placed[_evenly(len(placed), _FRAMES_JUDGED)]
    centres = np.rint(positions_m[judged] / object_pixel_m).astype(int)
    if not len(judged):
        return np.inf
    seen = _patches(mosaic, centres.tolist(), tile_shape)
    return finite_median(forward_residuals(bundle, seen, counts[judged]))


def _patches(mosaic: Mosaic, centres: Sequence[Sequence[int]], tile_shape: tuple[int, int]) -> Inferred:
    """Return what the mosaic holds where tiles lie, to the nearest pixel."""
    height, width = tile_shape
    corners = [(y - height // 2, x - width // 2) for y, x in centres]
    boxes = [(top, left, top + height, left + width) for top, left in corners]
    amplitude, phase = (
        np.stack([mosaic.image(channel, box) for box in boxes]) for channel in ("amplitude", "phase")
    )
    return Inferred(amplitude, np.cos(phase), np.sin(phase))


def _evenly(length: int, most: int) -> NDArray[np.intp]:
    """Return at most so many indices, spread over all."""
    return np.unique(np.linspace(0, length - 1, min(most, length)).astype(np.intp))
