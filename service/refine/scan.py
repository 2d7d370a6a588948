"""The refinement of one scan, a frame at a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.refinement import Misfit, ObjectRefinement, Placement, placement
from service.messages import Tiles
from service.mosaic import Bounds, Mosaic
from service.refine.canvas import Canvas
from service.refine.picture import as_mosaic
from service.refine.plane import joined
from service.refine.turned import TurnableTile, TurnedMosaic, turnable

_PIXEL_BYTES = 17  # object, what turning tiles changes, and whether it is known

_LEAST_GAIN = 2e-4  # the phase still improves by a tenth while the residual of noisy frames falls this slowly
_MOST_GROWTH = 1.1  # of the residual from sweep to sweep: it wavers a little where it settles
_GENTLER = 0.3  # of the step, when the one before spoiled the object
_LEAST_STEP = 0.05


class State(StrEnum):
    """How far a refinement is."""

    WAITING = "waiting for the stream to be quiet"
    REFINING = "refining"
    SETTLED = "settled: the residual falls no more"
    OUT_OF_TIME = "stopped: its time was up"
    SUPERSEDED = "stopped: the next scan began"
    STOPPED = "stopped: the service was stopped"
    DISCARDED = "discarded: the residual grew"


@dataclass(frozen=True, slots=True, eq=False)
class _PlacedFrame:
    """A diffraction pattern, counts (H, W), and its patch on the canvas."""

    counts: NDArray[Any]
    placement: Placement

    @property
    def box(self) -> Bounds:
        top, left = self.placement.top, self.placement.left
        height, width = self.counts.shape
        return top, left, top + height, left + width


class ScanRefinement:
    """Holds frames of one scan within a budget, and refines the mosaic's object by them.

    First the tiles of the frames are turned to fit each other; the mosaic itself stays as it is.

    Where a sweep leaves the frames explained worse than the mosaic did, it begins again from the mosaic with
    a shorter step: each of many noisy frames then moves the object less.

    One thread adds, one steps and ends it, any reads.

    Attributes:
        state: how far it is.
        seconds: of work, kept by whoever calls `step`.
        left_out: frames that came when the budget was spent.

    Args:
        mosaic: of the scan; its object, with the tiles turned, is the start.
        engine: refines patches, with the scan's probe; its step is shortened where that is needed.
        budget_bytes: what the frames may take, and as much again for the object. Tiles that wait to be
            turned have what the frames leave.
        seed: of the order of the frames.
    """

    def __init__(self, mosaic: Mosaic, engine: ObjectRefinement, budget_bytes: int, seed: int = 0) -> None:
        self.state = State.WAITING
        self.seconds = 0.0
        self.left_out = 0
        self._mosaic = mosaic
        self._engine = engine
        self._budget_bytes = budget_bytes
        self._held_bytes = 0
        self._box: Bounds | None = None
        self._pending: deque[_PlacedFrame] = deque()
        self._start = TurnedMosaic(mosaic)
        self._canvas: Canvas | None = Canvas(self._start)
        self._lock = threading.Lock()  # canvas and figures; the thread that adds never takes it
        self._frames: list[_PlacedFrame] = []
        self._entered = 0
        self._dice = np.random.default_rng(seed)
        self._order: list[int] = []  # of the frames that are left in this sweep, the next one last
        self._sweeps = 0
        self._before = self._sweep = Misfit()
        self._last_residual = math.inf
        self._to_beat = math.inf  # residual of the sweep before, over the same frames

    @property
    def ended(self) -> bool:
        """Whether frames that come can no longer be of use."""
        return self.over and self.state is not State.SETTLED

    @property
    def over(self) -> bool:
        """Whether nothing more is done, unless frames come after it has settled."""
        return self.state not in (State.WAITING, State.REFINING)

    @property
    def unturned(self) -> int:
        """Tiles that stay as they are in the mosaic for want of memory."""
        return self._start.forgotten

    def add(self, tiles: Tiles, counts: NDArray[Any]) -> int:
        """Take frames that are in the mosaic, and return how many were left out for want of memory.

        Args:
            tiles: of n frames, as they are in the mosaic.
            counts: (n, H, W) photons a pixel; kept, not copied.
        """
        if self.ended:
            return 0
        if self._held_bytes + counts[:1].nbytes > self._budget_bytes:  # nothing is prepared in vain
            self.left_out += len(counts)
            return len(counts)
        centres_px = (tiles.positions_m / self._mosaic.object_pixel_m).tolist()
        left_out = 0
        for (y, x), frame_counts, tile in zip(centres_px, counts, turnable(self._mosaic, tiles), strict=True):
            place = placement((y, x), (counts.shape[1], counts.shape[2]))
            left_out += not self._kept(_PlacedFrame(frame_counts, place), tile)
        self.left_out += left_out
        return left_out

    def step(self) -> bool:
        """Turn a tile, let a frame come in, or refine by one; False when there is nothing to gain."""
        with self._lock, np.errstate(all="ignore"):  # what is not finite is seen when a sweep is judged
            if self.ended or self._canvas is None:
                return False
            if self._start.step():
                self.state = State.REFINING
                return True
            if self._pending:
                self._enter(self._canvas, self._pending.popleft())
                return True
            if not self._order and not self._next_sweep():
                return False
            self._refine(self._canvas, self._frames[self._order.pop()])
            if not self._order:
                self._judge_sweep()
            return True

    def end(self, state: State) -> None:
        """Do no more and let the frames go; what has been refined stays."""
        if self.state in (State.WAITING, State.REFINING):
            self.state = state
        self.release()

    def release(self) -> None:
        """Let the frames go, and what the engine keeps for them."""
        with self._lock:
            self._drop_frames()
            self._engine.release()

    def refined(self) -> Mosaic | None:
        """Return the refined object on the mosaic's grid; None before the first sweep, or if discarded."""
        with self._lock:
            if self._canvas is None or not self._sweeps:
                return None
            bounds = self._mosaic.bounds()
            transmission = self._canvas.shown(bounds)
        if not np.isfinite(transmission).all():
            return None  # the sweep that is under way diverges
        coverage = self._mosaic.image("coverage", bounds)
        return as_mosaic(transmission, coverage, bounds, self._mosaic.object_pixel_m)

    def report(self) -> dict[str, Any]:
        """Return what API and page say of it: plain values."""
        return {
            "state": self.state.value,
            "ended": self.over,
            "frames": self._entered,
            "left_out": self.left_out,
            "turned": self._start.turned,
            "unturned": self.unturned,
            "sweeps": self._sweeps,
            "residual_before": _told(self._before.residual) if self._entered else None,
            "residual_after": _told(self._last_residual) if self._sweeps else None,
            "step": self._engine.step,
            "seconds": self.seconds,
        }

    def _kept(self, frame: _PlacedFrame, tile: TurnableTile) -> bool:
        y0, x0, y1, x1 = box = joined(self._box, frame.box)
        held_bytes = self._held_bytes + frame.counts.nbytes
        if max(held_bytes, (y1 - y0) * (x1 - x0) * _PIXEL_BYTES) > self._budget_bytes:
            return False
        self._held_bytes, self._box = held_bytes, box
        self._start.add(tile)  # before its frame, which starts from it
        self._start.fit_in(self._budget_bytes - held_bytes)
        self._pending.append(frame)
        return True

    def _enter(self, canvas: Canvas, frame: _PlacedFrame) -> None:
        """Take the frame in, as the first of those to be refined by."""
        canvas.take_in(frame.box)
        patch = canvas.patch(frame.box)
        self._before += self._engine.misfit(patch, frame.counts, frame.placement.shift)
        self._order.append(self._entered)
        self._frames.append(frame)
        self._entered += 1
        self._to_beat = math.inf
        self.state = State.REFINING

    def _next_sweep(self) -> bool:
        if self.state is not State.REFINING:
            return False
        self._order = self._dice.permutation(self._entered).tolist()
        return True

    def _refine(self, canvas: Canvas, frame: _PlacedFrame) -> None:
        patch = canvas.patch(frame.box)
        self._sweep += self._engine.update(patch, frame.counts, frame.placement.shift)

    def _drop_frames(self) -> None:
        self._pending.clear()
        self._start.release()
        self._frames, self._order = [], []

    def _judge_sweep(self) -> None:
        residual, self._sweep = self._sweep.residual, Misfit()
        self._sweeps += 1
        self._last_residual = residual
        if not math.isfinite(residual) or residual > min(self._before.residual, _MOST_GROWTH * self._to_beat):
            self._begin_again()
            return
        if residual > (1 - _LEAST_GAIN) * self._to_beat:
            self.state = State.SETTLED
        self._to_beat = residual

    def _begin_again(self) -> None:
        """Undo all sweeps, for shorter steps to do better; give up where they are short already."""
        self._engine.step *= _GENTLER
        self._sweeps, self._to_beat, self._last_residual = 0, math.inf, math.inf
        if self._engine.step < _LEAST_STEP:
            self.state = State.DISCARDED
            self._canvas = None
            self._drop_frames()
            return
        self._canvas = Canvas(self._start)
        for frame in self._frames:
            self._canvas.take_in(frame.box)


def _told(residual: float) -> float | None:
    return residual if math.isfinite(residual) else None
