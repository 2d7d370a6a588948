"""A batch through the engine and into the mosaic."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import BundleDescription
from model.geometry import probe_weight
from model.orientation import Orientation
from model.trust import tile_confidence
from service.aligned import add_aligned
from service.engine import Engine, Inferred, engine_input, forward_residuals
from service.errors import EngineError
from service.messages import Batch, Float32, Tiles
from service.mosaic import Mosaic
from service.pool import as_pool
from service.scan_run import ScanRun

_RESIDUAL_NS = 200_000_000
_TRIAL_FRAMES = 4
_TRIAL_S = 0.2  # for all orientations together; the stream waits


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What of a batch is in the mosaic.

    Attributes:
        tiles: those that could be stitched.
        counts: (n, H, W) of their frames, as the engine took them.
        infer_s, stitch_s: how long each took; the first counts from when the batch was handed to the engine.
    """

    tiles: Tiles
    counts: NDArray[Any]
    infer_s: float
    stitch_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """A batch that the engine has: its frames, their counts as it took them, and what it will say of them."""

    batch: Batch
    counts: NDArray[Any]
    found: Future[Inferred]
    begun_ns: int


class Painter:
    """Runs the engine and stitches what it gives; writes both in the ledger.

    Args:
        engine: runs the network.
        clock_ns: wall clock.

    Raises:
        EngineError: no mosaic can be made of the bundle's tiles.
    """

    def __init__(self, engine: Engine, clock_ns: Callable[[], int]) -> None:
        self._engine = as_pool(engine)
        self._clock_ns = clock_ns
        self._sent: list[_Sent] = []
        self._residual_ns = 0  # when the forward residual was last taken
        self._dtype = np.dtype(self.model.counts_dtype)
        try:
            self._weight = probe_weight(engine.bundle.probe, self.model.tile_shape)
            self.new_mosaic(self.model.object_pixel_m)
        except ValueError as error:
            raise EngineError(f"{engine.bundle.path} cannot be used: {error}") from error

    @property
    def model(self) -> BundleDescription:
        """What the engine runs."""
        return self._engine.bundle.description

    @property
    def idle(self) -> bool:
        """Whether an engine has nothing to do."""
        return len(self._sent) < self._engine.here

    def new_mosaic(self, object_pixel_m: float) -> Mosaic:
        """Return an empty mosaic whose tiles weigh as much as light falls on them."""
        return Mosaic(object_pixel_m, self._weight)

    def paint(self, run: ScanRun, batch: Batch) -> list[Painted]:
        """Hand a batch to the engine once it takes one more; return what was stitched since the last call.

        A single engine has run when this returns; what a pool still has, `arrived` and `rest` give.
        """
        painted = self.arrived(run)
        while len(self._sent) >= self._engine.most:
            painted += self._next(run)
        begun_ns = self._clock_ns()
        counts = engine_input(batch.frames, run.start.mask, self._dtype)
        self._sent.append(_Sent(batch, counts, self._engine.submit(counts), begun_ns))
        return painted + self.arrived(run)

    def arrived(self, run: ScanRun) -> list[Painted]:
        """Stitch the batches that have come back; the frames of those that failed are dropped."""
        back = [sent for sent in self._sent if sent.found.done()]
        self._sent = [sent for sent in self._sent if sent not in back]
        return [painted for sent in back if (painted := self._placed(run, sent)) is not None]

    def rest(self, run: ScanRun) -> list[Painted]:
        """Wait until the engine has nothing any more; see `arrived`."""
        painted = []
        while self._sent:
            painted += self._next(run)
        return painted

    def _next(self, run: ScanRun) -> list[Painted]:
        wait([sent.found for sent in self._sent], return_when=FIRST_COMPLETED)
        return self.arrived(run)

    def _placed(self, run: ScanRun, sent: _Sent) -> Painted | None:
        counts = sent.counts
        try:
            tiles = self._tiles(sent.batch, sent.found.result())
        except EngineError as error:
            run.ledger.drop([frame.index for frame in sent.batch.frames], "engine_failed")
            run.warn("engine_failed", str(error))
            return None
        run.ledger.infer(tiles.indices)
        inferred_ns = self._clock_ns()
        tiles, placed = self._stitch(run, tiles)
        infer_s, stitch_s = (inferred_ns - sent.begun_ns) * 1e-9, (self._clock_ns() - inferred_ns) * 1e-9
        self._watch(run, tiles, counts, infer_s)
        return Painted(tiles.only(placed), counts[placed, 0], infer_s, stitch_s)

    def _tiles(self, batch: Batch, found: Inferred) -> Tiles:
        confidence = tile_confidence(found.residual, self.model.trust)
        return Tiles(
            scan=batch.scan,
            indices=np.array([frame.index for frame in batch.frames]),
            positions_m=np.array([(frame.y_m, frame.x_m) for frame in batch.frames]),
            amplitude=found.amplitude,
            cos=found.cos,
            sin=found.sin,
            received_ns=np.array([frame.received_ns for frame in batch.frames]),
            confidence=None if confidence is None else _over_tiles(confidence, self._weight.shape),
            residual=found.residual,
        )

    def _watch(self, run: ScanRun, tiles: Tiles, counts: NDArray[Any], infer_s: float) -> None:
        """Look whether the frames are still such as the model was trained for; tell what is not."""
        residuals = self._residuals(run, tiles, counts)
        finite = residuals[np.isfinite(residuals)]
        run.residual = float(np.median(finite)) if finite.size else run.residual
        valid = counts < self.model.invalid_counts
        run.alarm.note(np.sum(counts, axis=(1, 2, 3), where=valid, dtype=np.float64), finite)
        tried = counts[-_trial_frames(infer_s / len(counts)) :]
        for about, line in run.alarm.raised(int(tiles.indices[-1]), tried, self._explain).items():
            run.warn(f"{about}, {run.model}", line)

    def _residuals(self, run: ScanRun, tiles: Tiles, counts: NDArray[Any]) -> Float32:
        """Return the forward residuals that the network tells, or else, a few times a second, one frame's.

        That is enough to see a model go wrong, and costs the stream next to nothing.
        """
        if tiles.residual is not None:
            return tiles.residual
        now_ns = self._clock_ns()
        if now_ns - self._residual_ns < _RESIDUAL_NS and not run.alarm.needs_residuals:
            return np.zeros(0, np.float32)
        self._residual_ns = now_ns
        first = Inferred(tiles.amplitude[:1], tiles.cos[:1], tiles.sin[:1])
        return forward_residuals(self._engine.bundle, first, counts[:1])

    def _explain(self, counts: NDArray[Any]) -> Float32:
        """Return the forward residual of frames (k, 1, H, W) with the tiles found for them; NaN for none."""
        try:
            found = self._engine.infer(counts)
        except EngineError:
            return np.full(len(counts), np.nan, np.float32)
        return forward_residuals(self._engine.bundle, found, counts)

    def _stitch(self, run: ScanRun, tiles: Tiles) -> tuple[Tiles, NDArray[np.bool_]]:
        """Return the tiles as they were added, and which are in the mosaic now, (n,)."""
        tiles, went = add_aligned(run.mosaic, tiles) if run.aligned else (tiles, run.mosaic.add(tiles))
        run.ledger.stitch(went.stitched)
        for reason, indices in (("outside", went.outside), ("not_finite", went.not_finite)):
            if len(indices):
                run.ledger.drop(indices, reason)
                run.warn(
                    reason,
                    f"tiles not stitched ({reason}): check the positions' unit, and the bundle",
                )
        placed: NDArray[np.bool_] = np.isin(tiles.indices, went.stitched)
        run.note_placed(tiles.only(placed), self._clock_ns())
        return tiles, placed


def _over_tiles(confidence: Float32, tile_shape: tuple[int, ...]) -> Float32:
    """Return what is known of each frame (n,) for each pixel of its tile, (n, h, w), a view."""
    return np.broadcast_to(confidence[:, None, None], (len(confidence), *tile_shape))


def _trial_frames(frame_s: float) -> int:
    """Return how many frames can be tried in all orientations in the time that is given to it."""
    affordable = _TRIAL_S / (len(Orientation) * max(frame_s, 1e-6))
    return max(1, min(_TRIAL_FRAMES, int(affordable)))
