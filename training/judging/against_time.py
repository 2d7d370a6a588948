"""Quality as a function of the seconds that an engine has worked, on the same frames, machine and threads.

Every way is stopped after the same row of seconds. What it takes to judge it is not its time, nor is the
setting up of an engine or the reading of the frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from model.judge import Likeness, align_global_phase, fourier_ring_correlation, likeness
from training.judging.evaluation import Progress, silent
from training.judging.iterative import IterativeSettings, refuse_divergence
from training.judging.iterative_frames import Frames
from training.judging.ptychi_engine import PtyChiRun
from training.judging.refinement_run import RefinementRun
from training.judging.stopwatch import Spent

Complex = NDArray[np.complex64]

SHORT_STEP = 0.1  # of rPIE's own: better where many noisy frames see each pixel
STOPS = 8  # each at twice the seconds of the one before
_ENDLESS = 1_000_000  # iterations: the clock ends a run
ENGINES = (
    ("ePIE (pty-chi)", IterativeSettings("epie", _ENDLESS, update_probe=False, device="cpu")),
    (
        "least squares (pty-chi)",
        IterativeSettings("least-squares", _ENDLESS, update_probe=False, device="cpu"),
    ),
    ("least squares, probe updated", IterativeSettings("least-squares", _ENDLESS, device="cpu")),
)


class IterativeRun(Protocol):
    """An engine at work on a scan."""

    def iterate(self) -> Spent:
        """Take all frames once; return what it took."""

    def found(self) -> tuple[Complex, Complex]:
        """Return object (Y, X) and probe (M, H, W) as they stand."""


@dataclass(frozen=True, slots=True)
class Resemblance:
    """An object beside one reference.

    Attributes:
        likeness: where both are well lit.
        half_bit_px: half period, pixels, of the finest detail whose Fourier ring correlation is above half a
            bit; infinite where none is.
    """

    likeness: Likeness
    half_bit_px: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How good an object was after so much work.

    Attributes:
        spent: on the work.
        passes: over all frames.
        residual: forward residual, with the probe as it then was.
        resemblances: with each reference, by its name; empty where there is none.
    """

    spent: Spent
    passes: int
    residual: float
    resemblances: Mapping[str, Resemblance]


@dataclass(frozen=True, slots=True)
class TimedWay:
    """One way to reconstruct a scan, at the seconds where it was stopped."""

    name: str
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What all ways are judged by.

    Attributes:
        frames: of the scan, with the probe that all ways know and an empty object.
        references: objects (Y, X) by name.
        where: (Y, X) bool, the pixels that are compared.
    """

    frames: Frames
    references: Mapping[str, Complex]
    where: NDArray[np.bool_]

    def judge(self, transmission: Complex, probe: Complex, spent: Spent, passes: int) -> Standing:
        """Return how good an object (Y, X) is, with the probe (M, H, W) that it was found with."""
        residual = self.frames.residual(transmission, probe)
        refuse_divergence(residual, passes)
        return Standing(spent, passes, residual, self.resemblances(transmission))

    def resemblances(self, transmission: Complex) -> dict[str, Resemblance]:
        """Return how much an object (Y, X) is like each reference, one global phase removed."""
        box = find_objects(self.where.astype(np.uint8))[0]
        found = {}
        for name, reference in self.references.items():
            turned = align_global_phase(transmission, reference, self.where)
            rings = fourier_ring_correlation(turned[box], reference[box])
            alike = likeness(turned, reference, self.where)
            found[name] = Resemblance(alike, rings.resolution_px(rings.half_bit))
        return found


def race(
    bench: Bench, mosaic: Complex, mosaic_spent: Spent, limit_s: float, progress: Progress = silent
) -> tuple[TimedWay, ...]:
    """Let a network's mosaic, its refinement and iterative engines stand against each other in time.

    Args:
        bench: what they are judged by.
        mosaic: (Y, X) of the network.
        mosaic_spent: by the network on it.
        limit_s: seconds of work, on the wall, for each way.
        progress: told of seconds worked.

    Raises:
        ValueError: pty-chi is not installed, an engine diverged, or nothing is left to compare.
    """
    frames = bench.frames
    network = bench.judge(mosaic, frames.probe, mosaic_spent, 1)
    ways = [TimedWay("network", (network,))]
    for step, words in ((1.0, "rPIE"), (SHORT_STEP, f"rPIE, step {SHORT_STEP}")):
        from_mosaic = RefinementRun(replace(frames, start=mosaic), step)
        ways += [
            _timed(f"network, then {words}", from_mosaic, bench, limit_s, progress, network),
            _timed(f"{words}, from an empty object", RefinementRun(frames, step), bench, limit_s, progress),
        ]
    for name, settings in ENGINES:
        ways.append(_timed(name, PtyChiRun(frames, settings), bench, limit_s, progress))
    return tuple(ways)


def _timed(
    name: str,
    run: IterativeRun,
    bench: Bench,
    limit_s: float,
    progress: Progress,
    start: Standing | None = None,
) -> TimedWay:
    """Run an engine until its time is up, and judge it whenever it passes one of the row of seconds."""
    stops = limit_s / 2.0 ** np.arange(STOPS)[::-1]
    standings = [] if start is None else [start]
    spent, passes = (Spent(), 0) if start is None else (start.spent, start.passes)
    with progress(name, int(np.ceil(limit_s))) as advance:
        while spent.wall_s < limit_s:
            before = spent.wall_s
            spent += run.iterate()
            passes += 1
            advance(int(min(spent.wall_s, limit_s)) - int(before))
            if np.searchsorted(stops, spent.wall_s, "right") > np.searchsorted(stops, before, "right"):
                standings.append(bench.judge(*run.found(), spent, passes))
    return TimedWay(name, tuple(standings))
