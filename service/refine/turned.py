"""The start of a refinement: the mosaic, its tiles turned to fit each other.

Absolute phase is not in a diffraction pattern, so each tile has an angle of its own, and where tiles
disagree by it the mosaic is smeared. The mosaic is a sum, and the network's tiles are gone once they are in
it. So their phases are kept until they are turned, at two bytes a pixel: to paint them again would take the
engine longer than several sweeps take, and the model may have been changed since. Amplitudes need no turning.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.gauge import ROUNDS, fitting_turn
from service.messages import Float32, Tiles
from service.mosaic import Bounds, Complex64, Mosaic
from service.refine.plane import Plane
from service.spread import spread_phasor

_UNITS = np.float32(32767 / np.pi)  # of a kept phase, a radian
_SETTLED = 5e-3  # of a turn, radians: the tile fits


@dataclass(slots=True, eq=False)
class TurnableTile:
    """A tile's phase, and how it has been turned.

    Attributes:
        phase: (h, w) of π / 32767.
        corner: first row and column.
        fraction: (2,) of a pixel, by which it lies further down and right.
        turn: e^{iθ} so far.
        rounds: how often it was turned.
    """

    phase: NDArray[np.int16]
    corner: tuple[int, int]
    fraction: Float32
    turn: complex = 1.0
    rounds: int = 0


def turnable(mosaic: Mosaic, tiles: Tiles) -> list[TurnableTile]:
    """Return what is kept of tiles that are in a mosaic."""
    corners, fractions, _ = mosaic.place(tiles.positions_m)
    phases = (np.arctan2(tiles.sin, tiles.cos) * _UNITS).astype(np.int16)
    return [
        TurnableTile(phase.copy(), (y, x), fraction)  # a copy: one that goes takes no others along
        for phase, (y, x), fraction in zip(phases, corners.tolist(), fractions, strict=True)
    ]


class TurnedMosaic:
    """A mosaic whose tiles are turned, one after the other, each to fit all the others.

    The mosaic itself stays as it is: what turning changes in its sum is kept beside it. Tiles that were never
    given, or that were forgotten, stay as they are, and others are turned to fit them.

    One thread adds and forgets, another steps and looks.

    Attributes:
        turned: tiles that need no further turn.
        forgotten: tiles that were let go before.
    """

    def __init__(self, mosaic: Mosaic) -> None:
        self.turned = 0
        self.forgotten = 0
        self._mosaic = mosaic
        self._tiles: deque[TurnableTile] = deque()
        self._held_bytes = 0
        self._lock = threading.Lock()  # tiles and their size
        self._change = Plane(np.complex64(0))  # of Σ w e^{iφ}

    def add(self, tile: TurnableTile) -> None:
        """Take a tile that is in the mosaic, to be turned."""
        with self._lock:
            self._tiles.append(tile)
            self._held_bytes += tile.phase.nbytes

    def fit_in(self, room_bytes: int) -> None:
        """Forget tiles, the oldest first, until the others take no more than this."""
        with self._lock:
            while self._tiles and self._held_bytes > room_bytes:
                self._held_bytes -= self._tiles.popleft().phase.nbytes
                self.forgotten += 1

    def release(self) -> None:
        """Let all tiles go; what has been turned stays turned."""
        with self._lock:
            self._tiles.clear()
            self._held_bytes = 0

    def step(self) -> bool:
        """Turn one tile; False when there is none to turn."""
        with self._lock:
            if not self._tiles:
                return False
            tile = self._tiles.popleft()
            self._held_bytes -= tile.phase.nbytes
        turn = self._turn(tile)
        tile.rounds += 1
        if tile.rounds < ROUNDS and abs(turn - 1) > _SETTLED:
            self.add(tile)
        else:
            self.turned += 1
        return True

    def coverage(self, box: Bounds) -> Float32:
        """Return the mosaic's coverage of a box (H, W)."""
        return self._mosaic.image("coverage", box)

    def object(self, box: Bounds) -> Complex64:
        """Return the complex transmission of a box as (H, W) complex64, the tiles turned so far."""
        phasors = self._mosaic.phasors(box)
        part, change = self._change.within(box)
        phasors[part] += change
        phase: Float32 = np.angle(phasors)
        transmission: Complex64 = self._mosaic.image("amplitude", box) * np.exp(np.complex64(1j) * phase)
        return transmission

    def _turn(self, tile: TurnableTile) -> complex:
        """Turn a tile within the sum by the angle that is returned, as e^{iθ}."""
        weighted = self._weighted(tile)
        (y, x), (height, width) = tile.corner, weighted.shape
        box = y, x, y + height, x + width
        change = self._change.view(box)
        turn = fitting_turn(weighted, self._mosaic.phasors(box) + change - weighted)
        change += np.complex64(turn - 1) * weighted
        tile.turn *= turn
        return turn

    def _weighted(self, tile: TurnableTile) -> Complex64:
        """Return w·e^{iφ} of a tile as it is turned now, (h + 1, w + 1), spread as the mosaic spreads it."""
        phase = tile.phase / _UNITS
        weighted = spread_phasor(np.cos(phase), np.sin(phase), self._mosaic.weight, tile.fraction)
        return np.complex64(tile.turn) * weighted
