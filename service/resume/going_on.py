"""Going on with a scan that another process began: from its snapshot, and from what was recorded after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import PixelError, RecordingError
from service.messages import Image, Positions, ScanStart
from service.reconstruct import Reconstruction
from service.recording.chunks import unpacked
from service.resume.leftover import Leftover
from service.resume.recorded import LeftRecording, open_recording, recordings_of
from service.resume.sealed import SnapshotError
from service.scan_run import Resumption, RunState, ScanRun


@dataclass(frozen=True, slots=True, eq=False)
class Resumer:
    """Goes on with scans in a journey.

    Attributes:
        journey: where nothing runs yet.
        recordings: folder of the recordings, None where there are none.
        clock_s: the journey's.
        clock_ns: wall clock.
        warn: is told a line of what cannot be read.
    """

    journey: Reconstruction
    recordings: Path | None
    clock_s: Callable[[], float]
    clock_ns: Callable[[], int]
    warn: Callable[[str], None]

    def go_on(self, left: Leftover, start: ScanStart) -> Resumption:
        """Go on with a scan where it was left.

        Args:
            left: what was kept of it.
            start: what was told of it, as it comes out of the door now.

        Raises:
            SnapshotError: what was kept is damaged; nothing runs then.
        """
        state = left.state()
        kept = int(np.count_nonzero(state.ledger.fates))
        run = self._restored(start, state)
        lost = run.ledger.recall(left.arrivals)
        recorded = self._replayed(run, set(lost.tolist()), left.snapshot.started_ns)
        how = Resumption(self.clock_ns(), kept, recorded, len(lost) - recorded)
        run.resumed(how)
        run.forsaken = True
        return how

    def begin_anew(self, start: ScanStart) -> None:
        """Go on with a scan of which nothing is left but that it began."""
        self.journey.resume(start, None, self.clock_s())

    def _restored(self, start: ScanStart, state: RunState) -> ScanRun:
        try:
            return self.journey.resume(start, state, self.clock_s())
        except ValueError as error:
            raise SnapshotError(str(error)) from error

    def _replayed(self, run: ScanRun, wanted: set[int], since_ns: int) -> int:
        """Take frames from the recordings; return how many were there."""
        found = 0
        if self.recordings is None or not wanted:
            return found
        for path in recordings_of(run.scan, self.recordings, since_ns):
            try:
                with open_recording(path) as recording:
                    found += self._take(run, recording, wanted)
            except RecordingError as error:
                self.warn(str(error))
        return found

    def _take(self, run: ScanRun, recording: LeftRecording, wanted: set[int]) -> int:
        framing = run.start.framing
        if framing is None:
            return 0
        positions_m = framing.axes.of_positions(recording.positions_m)
        self.journey.handle(Positions(run.scan, 0, positions_m), self.clock_s())
        found = 0
        for index in filter(wanted.__contains__, recording.frames.tolist()):
            try:
                counts = framing.of_counts(unpacked(recording.packed(index)))
            except PixelError:
                continue
            wanted.discard(index)
            run.ledger.reopen(index)
            self.journey.handle(Image(run.scan, index, counts, self.clock_ns()), self.clock_s())
            found += 1
        return found
