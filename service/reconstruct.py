"""The journey of a frame: join → batch → infer → stitch, each end of it written in the ledger.

Pure: it is handed its engine, its clock and those who listen, and it opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from model.bundle import BundleDescription
from service.alarm import Alarm
from service.batch import Batcher
from service.early_positions import EARLY_BYTES, EarlyPositions
from service.engine import Engine
from service.errors import EngineError, MessageError
from service.join import Joiner
from service.ledger import Ledger
from service.messages import (
    Batch,
    Event,
    Frame,
    Image,
    Notice,
    Positions,
    PositionsArmed,
    Rejected,
    ScanEnd,
    ScanStart,
)
from service.paint import Painted, Painter
from service.scan_run import RunState, ScanRun, pixel_warning, scan_pixel_m

ABORTED = "aborted"
"""The ledger's word for frames that a scan, ended by its operator, had no time for."""

_ARMED_AGAIN = "the position source was armed again in mid-scan: its new positions are kept for the next scan"


@dataclass(frozen=True, slots=True)
class JourneySettings:
    """The part of the settings that the journey obeys; see `Settings`."""

    batch_frames: int = 16
    batch_deadline_s: float = 0.05
    join_deadline_s: float = 10.0
    join_waiting: int = 4096
    join_bytes: int = 1 << 29
    end_grace_s: float = 2.0
    idle_end_s: float = 30.0
    max_frames: int = 1 << 24
    gauge_alignment: bool = False


class Listener(Protocol):
    """Who is told what happens."""

    def scan_started(self, run: ScanRun) -> None:
        """Take note that a scan began."""

    def batch_stitched(self, run: ScanRun, painted: Painted) -> None:
        """Take note that tiles are in the mosaic."""

    def scan_finished(self, run: ScanRun) -> None:
        """Take note that a scan is over and its ledger closed."""

    def stray(self, line: str) -> None:
        """Take note of a frame that belongs to no running scan."""


class Reconstruction:
    """Takes events, paints mosaics. One thread calls it; readers look at `run` and its mosaic.

    Args:
        engine: runs the network.
        settings: sizes and deadlines.
        listener: is told what happens.
        clock_ns: wall clock, for latencies.

    Raises:
        EngineError: the engine's model cannot be used.
    """

    def __init__(
        self, engine: Engine, settings: JourneySettings, listener: Listener, clock_ns: Callable[[], int]
    ) -> None:
        self.run: ScanRun | None = None
        self._settings = settings
        self._listener = listener
        self._clock_ns = clock_ns
        self._painter = Painter(engine, clock_ns)
        self._early = EarlyPositions(EARLY_BYTES)
        self._unannounced: ScanStart | None = None  # a scan without a start message, while another runs

    @property
    def aligns(self) -> bool:
        """Whether each tile of the next scans is turned to fit those before it."""
        return self._settings.gauge_alignment

    def align(self, on: bool) -> None:
        """Turn each tile of the next scans to fit those before it, or leave them as they are; any thread."""
        self._settings = replace(self._settings, gauge_alignment=on)

    def handle(self, event: Event, now_s: float) -> None:
        """Take one event."""
        match event:
            case ScanStart():
                self._start(event, now_s)
            case Image():
                self._image(event, now_s)
            case Positions():
                self._positions(event, now_s)
            case Rejected():
                self._rejected(event, now_s)
            case ScanEnd():
                self._end(event, now_s)
            case PositionsArmed():
                self._positions_armed(now_s)
            case Notice() if self.run is not None:
                self.run.warn(event.about, event.line)

    def tick(self, now_s: float, *, idle: bool = False) -> None:
        """Let deadlines pass: late positions, waiting batches, the end of the scan.

        Args:
            now_s: on the journey's clock.
            idle: no event waits to be handled, so a batch need not wait for more frames.
        """
        run = self.run
        if run is None:
            return
        run.watch(now_s)
        self._tell(run, self._painter.arrived(run))
        self._give_up(run, run.joiner.expire(now_s))
        self._infer(run, run.batcher.due(now_s, idle=idle and self._painter.idle))
        quiet_s = now_s - run.last_arrival_s
        quiet = quiet_s >= self._settings.end_grace_s
        gone = run.end_told and quiet and not run.joiner.waiting
        if gone or ((run.end_told or quiet) and run.complete()):
            self._finish(run)
        elif (run.forsaken or not run.start.has_end) and quiet_s >= self._settings.idle_end_s:
            why = "since the service is back" if run.forsaken else "and this format tells no end"
            run.warn("end", f"no frame came for {quiet_s:.0f} s, {why}: taken as over")
            self._finish(run)

    def swap(self, engine: Engine) -> None:
        """Go on with another model. What waits in the batch is inferred with the old one first.

        Raises:
            EngineError: the new model cannot be used, or does not fit the scan that is running.
        """
        painter = Painter(engine, self._clock_ns)
        if self.run is not None:
            self._prepare_swap(self.run, painter.model)
        self._painter = painter

    def _prepare_swap(self, run: ScanRun, model: BundleDescription) -> None:
        fits = model.frame_shape == run.start.frame_shape
        if not fits or model.tile_shape != self._painter.model.tile_shape:
            raise EngineError(f"{model.name} does not fit the running scan {run.scan}")
        self._infer_all(run)
        if model.name != run.model:
            run.warn("model", f"the model was changed in the middle of the scan, from {run.model}")
        if (warning := pixel_warning(run.object_pixel_m, model)) is not None:
            run.warn("model_pixel", warning)
        run.model, run.alarm = model.name, Alarm(model.trust)

    def abort(self, run: ScanRun) -> None:
        """End a scan, if it still runs, because the operator says so; frames without position are dropped."""
        if run is not self.run:
            return
        run.warn(ABORTED, "the scan was aborted")
        waiting = [image.index for image in run.joiner.flush()]
        if waiting:
            run.ledger.drop(waiting, ABORTED)
        self._finish(run)

    def resume(self, start: ScanStart, state: RunState | None, now_s: float) -> ScanRun:
        """Go on with a scan that another process began; before any event.

        Args:
            start: what was told of it.
            state: what was kept of it; None: nothing but that it began.
            now_s: on the journey's clock.

        Raises:
            ValueError: the state does not fit; nothing runs then.
        """
        run = self._new_run(start, now_s)
        kept = [] if state is None else [Positions(start.scan, 0, state.positions_m)]
        if state is not None:
            run.restore(state)
        run.forsaken = True
        self._begin(run, kept + _planned(run), now_s)
        return run

    def close(self) -> None:
        """End the scan that is running, if any: all that can be placed is placed."""
        if self.run is not None:
            self._finish(self.run)

    def _start(self, start: ScanStart, now_s: float) -> None:
        if self._told_again(start):
            return
        if start.assumed and self._busy(now_s):  # strays of an aborted series must not end a scan
            self._unannounced = start
            return
        if self.run is not None:
            if not self.run.end_told:
                self.run.warn("end", f"no end was told: {start.scan} began before")
            self._finish(self.run)
        self._unannounced = None
        run = self._new_run(start, now_s)
        self._begin(run, _planned(run), now_s)

    def _begin(self, run: ScanRun, known: list[Positions], now_s: float) -> None:
        self.run = run
        self._listener.scan_started(run)
        for positions in known + self._early.begin(run.scan):
            self._join(run, positions, now_s)

    def _told_again(self, start: ScanStart) -> bool:
        """Whether this is a second copy of the running scan's start, and not the scan begun anew."""
        run = self.run
        if run is None or run.scan != start.scan:
            return False
        if not start.assumed and (run.end_told or run.ledger.counts().received):
            return False
        run.warn("start", "the start of the scan was told twice; the second one was ignored")
        return True

    def _new_run(self, start: ScanStart, now_s: float) -> ScanRun:
        s, model = self._settings, self._painter.model
        pixel_m, warning = scan_pixel_m(start, model)
        run = ScanRun(
            start=start, object_pixel_m=pixel_m, model=model.name, ledger=Ledger(start.frames),
            joiner=Joiner(s.join_deadline_s, s.join_waiting, s.max_frames, s.join_bytes),
            batcher=Batcher(start.scan, s.batch_frames, s.batch_deadline_s),
            mosaic=self._painter.new_mosaic(pixel_m), alarm=Alarm(model.trust),
            started_ns=self._clock_ns(), last_arrival_s=now_s, aligned=s.gauge_alignment,
        )  # fmt: skip
        for about, line in start.notes:
            run.warn(about, line)
        if warning and "frame_shape" not in run.warnings:  # frames that are refused have no object
            run.warn("geometry", warning)
        if start.assumed:
            run.warn("start", f"the start of the scan was not received: {start.assumed}")
        return run

    def _busy(self, now_s: float) -> bool:
        run = self.run
        return (
            run is not None and not run.end_told and now_s - run.last_arrival_s < self._settings.end_grace_s
        )

    def _running(self, scan: str, now_s: float) -> ScanRun | None:
        if self.run is not None and self.run.scan == scan:
            return self.run
        unannounced = self._unannounced
        if unannounced is not None and unannounced.scan == scan and not self._busy(now_s):
            self._unannounced = None
            self._start(unannounced, now_s)
            return self.run
        self._listener.stray(f"a frame of scan {scan} came, which is not running")
        return None

    def _image(self, image: Image, now_s: float) -> None:
        run = self._running(image.scan, now_s)
        if run is None or not self._receive(run, image.index, now_s):
            return
        run.ledger.decode(image.index)
        if image.counts.shape != self._painter.model.frame_shape:
            self._refuse_shape(run, image)
            return
        frame = run.joiner.add_image(image, now_s)
        self._batch(run, [] if frame is None else [frame], now_s)

    def _receive(self, run: ScanRun, index: int, now_s: float) -> bool:
        run.last_arrival_s, run.forsaken = now_s, False
        return run.ledger.receive(index)

    def _refuse_shape(self, run: ScanRun, image: Image) -> None:
        run.ledger.drop(image.index, "frame_shape")
        run.warn(
            "frame_shape",
            f"frames are {image.counts.shape}, the model {run.model} takes "
            f"{self._painter.model.frame_shape}: check the region of interest, or the bundle",
        )

    def _positions(self, positions: Positions, now_s: float) -> None:
        run = self.run
        owner = self._early.owner(positions, None if run is None else run.scan)
        if run is None or owner != run.scan:
            self._early.keep(positions)
        else:
            self._join(run, positions, now_s)

    def _join(self, run: ScanRun, positions: Positions, now_s: float) -> None:
        try:
            self._batch(run, run.joiner.add_positions(positions), now_s)
        except MessageError as error:
            run.warn("positions", str(error))

    def _positions_armed(self, now_s: float) -> None:
        run = self.run
        arming = self._early.arm(unused=run is None or not run.ledger.counts().joined)
        if run is None or arming == "first":
            return
        if arming == "next":
            if not run.end_told:
                run.warn("positions_armed", _ARMED_AGAIN)
            return
        run.joiner.forget_positions()
        for positions in _planned(run):
            self._join(run, positions, now_s)

    def _rejected(self, rejected: Rejected, now_s: float) -> None:
        run = self._running(rejected.scan, now_s)
        if run is not None and self._receive(run, rejected.index, now_s):
            run.ledger.drop(rejected.index, rejected.reason)
            run.warn(rejected.reason, f"frame {rejected.index}: {rejected.detail}")

    def _end(self, end: ScanEnd, now_s: float) -> None:
        run = self.run
        if run is None or run.scan != end.scan:
            return  # told twice, or of a scan that the next one has already ended
        if end.frames is not None:
            run.ledger.expect(end.frames)
        if not run.end_told:  # told again and again, it must not keep the scan open
            run.end_told, run.last_arrival_s = True, now_s
        self._infer(run, run.batcher.flush())
        self.tick(now_s)

    def _give_up(self, run: ScanRun, images: Sequence[Image]) -> None:
        if images:
            run.ledger.drop([image.index for image in images], "no_position")
            run.warn("no_position", run.joiner.why_without_position(images[0].index))

    def _batch(self, run: ScanRun, frames: Sequence[Frame], now_s: float) -> None:
        for frame in frames:
            run.ledger.join(frame.index)
            self._infer(run, run.batcher.add(frame, now_s))

    def _infer(self, run: ScanRun, batch: Batch | None) -> None:
        if batch is not None:
            self._tell(run, self._painter.paint(run, batch))

    def _infer_all(self, run: ScanRun) -> None:
        """Infer and stitch all that is in a batch."""
        self._infer(run, run.batcher.flush())
        self._tell(run, self._painter.rest(run))

    def _tell(self, run: ScanRun, stitched: Iterable[Painted]) -> None:
        for painted in stitched:
            if len(painted.tiles.indices):
                self._listener.batch_stitched(run, painted)

    def _finish(self, run: ScanRun) -> None:
        self._give_up(run, run.joiner.flush())
        self._infer_all(run)
        run.look_for_stolen_frames()
        if begins := _late_begin(run.ledger):
            run.warn("begin", begins)
        run.ledger.close()
        run.finished_ns = self._clock_ns()
        self.run = None
        self._listener.scan_finished(run)


def _planned(run: ScanRun) -> list[Positions]:
    """Return the positions that were told with the start of a scan."""
    told_m = run.start.positions_m
    return [] if told_m is None else [Positions(run.scan, 0, told_m)]


def _late_begin(ledger: Ledger) -> str | None:
    """Return a line for the operator where a scan's first frames are missing, None where they are not."""
    missing = ledger.missing(1)
    begin = missing[0][1] + 1 if missing and missing[0][0] == 0 else 0
    if begin < 2 or not ledger.counts().received:  # one lost frame is no late start; the ledger names it
        return None
    return f"frames begin at {begin}: did the service come when the scan was already running?"
