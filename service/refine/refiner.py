"""The thread that refines the newest scan while the stream is quiet."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from model.bundle import Bundle
from model.refinement import ObjectRefinement
from service.mosaic import Mosaic
from service.paint import Painted
from service.refine.scan import ScanRefinement, State
from service.scan_run import ScanRun

_PAUSE_S = 0.01


@dataclass(slots=True, eq=False)
class _Task:
    """A scan to refine, until it has taken so many seconds; `told`: that there is no more to come."""

    run: ScanRun
    refinement: ScanRefinement
    limit_s: float = math.inf
    told: bool = False

    @property
    def over(self) -> bool:
        """Whether the scan is finished and its refinement too."""
        return math.isfinite(self.limit_s) and self.refinement.over


class Refiner:
    """Refines the scan that is running or was the last to run; those before keep what they have.

    The thread that reconstructs tells it of scans and frames, and never waits for it.

    Args:
        quiet: whether the stream leaves time; asked before every frame's step, a few milliseconds long.
        frames_mib: what the frames of the scan may take; the object may take as much again.
        after_s: how long it works on a finished scan.
        over: is told of a finished scan that will be refined no further, in the thread that works.
    """

    def __init__(
        self, quiet: Callable[[], bool], frames_mib: int, after_s: float, over: Callable[[ScanRun], None]
    ) -> None:
        self._quiet = quiet
        self._over = over
        self._frames_mib = frames_mib
        self._after_s = after_s
        self._tasks: dict[ScanRun, _Task] = {}
        self._newest: _Task | None = None
        self._superseded: deque[_Task] = deque()

    def begin(self, run: ScanRun, bundle: Bundle) -> None:
        """Go over to a scan, lit by the bundle's probe."""
        if self._newest is not None:
            self._superseded.append(self._newest)
        engine = ObjectRefinement(bundle.probe, bundle.description.invalid_counts)
        task = _Task(run, ScanRefinement(run.mosaic, engine, self._frames_mib << 20))
        self._tasks = {**self._tasks, run: task}
        self._newest = task

    def add(self, run: ScanRun, painted: Painted) -> None:
        """Take frames of the newest scan that are in its mosaic."""
        task = self._tasks.get(run)
        if task is None:
            return
        if task.refinement.add(painted.tiles, painted.counts):
            run.warn(
                "refine",
                f"frames beyond {self._frames_mib} MiB are not refined: the network's mosaic stays there; "
                "raise refine_mib if there is memory",
            )
        if task.refinement.unturned:
            run.warn(
                "refine_tiles",
                f"frames leave no room in {self._frames_mib} MiB for all tiles: some are not turned to fit "
                "the others before they are refined; raise refine_mib if there is memory",
            )

    def finish(self, run: ScanRun) -> None:
        """Take note that no more frames will come: from now on the time is limited."""
        task = self._tasks.get(run)
        if task is not None:
            task.limit_s = task.refinement.seconds + self._after_s

    def forget_but(self, runs: Iterable[ScanRun]) -> None:
        """Let go of all scans but these."""
        kept = set(runs)
        self._tasks = {run: task for run, task in self._tasks.items() if run in kept}
        if self._newest is not None and self._newest.run not in kept:
            self._superseded.append(self._newest)
            self._newest = None

    def refined(self, run: ScanRun) -> Mosaic | None:
        """Return a scan's refined object on its mosaic's grid, None where there is none."""
        task = self._tasks.get(run)
        return None if task is None else task.refinement.refined()

    def report(self, run: ScanRun) -> dict[str, Any] | None:
        """Return what API and page say of a scan's refinement, None where there is none."""
        task = self._tasks.get(run)
        return None if task is None else task.refinement.report()

    def work(self, stopping: threading.Event) -> None:
        """Refine until the service stops."""
        while not stopping.is_set():
            while self._superseded:
                self._give_up(self._superseded.popleft(), State.SUPERSEDED)
            task = self._newest
            if task is None or not self._quiet() or not _worked(task):
                self._tell(task)
                stopping.wait(_PAUSE_S)
        if self._newest is not None:
            self._give_up(self._newest, State.STOPPED)

    def _give_up(self, task: _Task, state: State) -> None:
        task.refinement.end(state)
        self._tell(task)

    def _tell(self, task: _Task | None) -> None:
        """Say once that a finished scan is refined no further."""
        if task is not None and task.over and not task.told:
            task.told = True
            self._over(task.run)


def _worked(task: _Task) -> bool:
    """Do a step's work on a scan; False when there is none to do."""
    refinement = task.refinement
    if refinement.seconds >= task.limit_s:
        refinement.end(State.OUT_OF_TIME)
        return False
    began_s = time.monotonic()
    stepped = refinement.step()
    refinement.seconds += time.monotonic() - began_s
    if not stepped and math.isfinite(task.limit_s):
        refinement.release()
    return stepped
