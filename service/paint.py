"""A batch through the engine and into the mosaic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import BundleDescription
from model.geometry import probe_weight
from model.optics import tile_residual
from service.engine import Engine, engine_input
from service.errors import EngineError
from service.messages import Batch, Tiles
from service.mosaic import Mosaic
from service.scan_run import ScanRun

_RESIDUAL_NS = 200_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What of a batch is in the mosaic.

    Attributes:
        tiles: those that could be stitched.
        counts: (n, H, W) of their frames, as the engine took them.
        infer_s, stitch_s: how long each took.
    """

    tiles: Tiles
    counts: NDArray[Any]
    infer_s: float
    stitch_s: float


class Painter:
    """Runs the engine and stitches what it gives; writes both in the ledger.

    Args:
        engine: runs the network.
        clock_ns: wall clock.

    Raises:
        EngineError: no mosaic can be made of the bundle's tiles.
    """

    def __init__(self, engine: Engine, clock_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._clock_ns = clock_ns
        self._residual_ns = 0  # when the forward residual was last taken
        self._dtype = np.dtype(self.model.counts_dtype)
        try:
            self.new_mosaic(self.model.object_pixel_m)
        except ValueError as error:
            raise EngineError(f"{engine.bundle.path} cannot be used: {error}") from error

    @property
    def model(self) -> BundleDescription:
        """What the engine runs."""
        return self._engine.bundle.description

    def new_mosaic(self, object_pixel_m: float) -> Mosaic:
        """Return an empty mosaic whose tiles weigh as much as light falls on them."""
        return Mosaic(object_pixel_m, probe_weight(self._engine.bundle.probe, self.model.tile_shape))

    def paint(self, run: ScanRun, batch: Batch) -> Painted | None:
        """Infer and stitch a batch; None where the engine failed, and its frames are dropped."""
        begun_ns = self._clock_ns()
        counts = engine_input(batch.frames, run.start.mask, self._dtype)
        try:
            tiles = self._infer(batch, counts)
        except EngineError as error:
            run.ledger.drop([frame.index for frame in batch.frames], "engine_failed")
            run.warn("engine_failed", str(error))
            return None
        run.ledger.infer(tiles.indices)
        inferred_ns = self._clock_ns()
        self._look_at_residual(run, tiles, counts[0, 0], inferred_ns)
        placed = self._stitch(run, tiles)
        stitch_s = (self._clock_ns() - inferred_ns) * 1e-9
        return Painted(_only(tiles, placed), counts[placed, 0], (inferred_ns - begun_ns) * 1e-9, stitch_s)

    def _infer(self, batch: Batch, counts: NDArray[Any]) -> Tiles:
        amplitude, cos, sin = self._engine.infer(counts)
        return Tiles(
            scan=batch.scan,
            indices=np.array([frame.index for frame in batch.frames]),
            positions_m=np.array([(frame.y_m, frame.x_m) for frame in batch.frames]),
            amplitude=amplitude,
            cos=cos,
            sin=sin,
            received_ns=np.array([frame.received_ns for frame in batch.frames]),
        )

    def _look_at_residual(self, run: ScanRun, tiles: Tiles, counts: NDArray[Any], now_ns: int) -> None:
        """Take the forward residual of the batch's first frame, a few times a second.

        That is enough to see a model go wrong, and costs the stream next to nothing.
        """
        if run.residual is not None and now_ns - self._residual_ns < _RESIDUAL_NS:
            return
        tile = tiles.amplitude[0] * (tiles.cos[0] + 1j * tiles.sin[0])
        invalid = counts >= self.model.invalid_counts
        residual = tile_residual(self._engine.bundle.probe, tile, counts, invalid)
        run.residual = residual if math.isfinite(residual) else run.residual
        self._residual_ns = now_ns

    def _stitch(self, run: ScanRun, tiles: Tiles) -> NDArray[np.bool_]:
        """Return which are in the mosaic now, (n,)."""
        went = run.mosaic.add(tiles)
        run.ledger.stitch(went.stitched)
        for reason, indices in (("outside", went.outside), ("not_finite", went.not_finite)):
            if len(indices):
                run.ledger.drop(indices, reason)
                run.warn(
                    reason,
                    f"tiles not stitched ({reason}): check the positions' unit, and the bundle",
                )
        placed: NDArray[np.bool_] = np.isin(tiles.indices, went.stitched)
        run.note_placed(_only(tiles, placed), self._clock_ns())
        return placed


def _only(tiles: Tiles, which: NDArray[np.bool_]) -> Tiles:
    if which.all():
        return tiles
    return Tiles(
        scan=tiles.scan,
        indices=tiles.indices[which],
        positions_m=tiles.positions_m[which],
        amplitude=tiles.amplitude[which],
        cos=tiles.cos[which],
        sin=tiles.sin[which],
        received_ns=tiles.received_ns[which],
    )
