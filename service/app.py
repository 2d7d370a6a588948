"""Threads, queues and wiring: what runs, and what talks to what.

A thread a source: socket → decoder → door → inbox. One thread reconstructs: inbox → journey → tiles out.
Another refines while the stream is quiet; the web server and the result files have their own. The inbox is
the only queue on the way in and is bounded in bytes; when it is full the sockets are not read, and the
senders wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.orientation import Orientation
from service.config import Settings
from service.door import Door
from service.door_settings import door_settings
from service.errors import ConfigError, PtycholiveError, StreamError
from service.improve import Improver
from service.inbox import Inbox
from service.intake import Intake, open_intakes
from service.journey_settings import journey_settings
from service.messages import Event, Image, Notice, Rejected
from service.metrics import Metrics
from service.orders import Orders
from service.paint import Painted
from service.pool import EnginePool
from service.publish import TilePublisher
from service.reconstruct import ABORTED, Reconstruction
from service.recording.recording import Recording
from service.recording.settings import recorder_settings
from service.refine.refiner import Refiner
from service.resume.going_on import Resumer
from service.resume.keeper import RunKeeper
from service.resume.restart import Recognised, go_on, recognise
from service.runs import Runs
from service.scan_run import ScanRun
from service.store import ResultStore
from service.stream_keys import listening_curve
from service.web.recent import RecentFrames
from service.workforce import Workforce

log = logging.getLogger("ptycholive")

_POLL_S = 0.1
_TICK_S = 0.01
_STOP_S = 5.0
_QUIET_S = 0.2  # without a message: then there is time to refine
_LINES_KEPT = 20
_RECENT_BYTES = 64 << 20


class App:
    """The running service.

    Args:
        settings: of everything.

    Raises:
        ConfigError, EngineError: it cannot run so; nothing stays open.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.runs = Runs(settings.keep_scans)
        self.warnings: deque[str] = deque(maxlen=_LINES_KEPT)
        self.failure: BaseException | None = None
        self.recent: RecentFrames | None = None  # of the newest scan
        self._stopping = threading.Event()
        self._all_received = threading.Event()  # no intake will put anything into the inbox any more
        self._workers: list[threading.Thread] = []  # they end as soon as the service is stopping
        self._reconstructor: threading.Thread | None = None
        self._orders = Orders(self._stopping)
        self.metrics = Metrics(self.runs.totals, self.queues)
        self._workforce = Workforce(settings, log.info, self._worker_lost)
        self.engine = self._workforce.load(settings.bundle)
        self.door = Door(door_settings(settings), lambda: self.engine.bundle.description.frame_shape)
        self.inbox = Inbox(settings.inbox_mib << 20)
        self.metrics.workers.set_function(lambda: self.engine.here)
        self.store = ResultStore(Path(settings.results), self.warn)
        self.refiner = Refiner(self._quiet, settings.refine_mib, settings.refine_s, self._refined)
        self._at_work = False  # the journey is handling what came
        self._journey = Reconstruction(self.engine, journey_settings(settings), self, time.time_ns)
        self.intakes: list[Intake] = []
        self.recording = Recording(
            recorder_settings(settings), settings.record_mib << 20, log.info, self.warn
        )
        self._recorder: threading.Thread | None = None
        self._publisher: TilePublisher | None = None
        self._note_engine(self.engine)
        self._left: list[Recognised] = []  # by a service that went down
        self.keeper = RunKeeper(Path(settings.results), settings.snapshot_s, self.warn, self._fail)

    def start(self) -> None:
        """Open the sockets and start the threads; when this returns, frames are taken.

        Raises:
            ConfigError: an endpoint cannot be had.
        """
        s = self.settings
        if s.tiles is not None:
            curve = listening_curve(s, s.tiles)
            self._publisher = TilePublisher(s.tiles, allow_remote=s.allow_remote_streams, curve=curve)
        self.intakes.extend(open_intakes(s, self._admit))
        model = self.engine.bundle.description
        self._left = recognise(self.keeper, self.intakes[0], self._admit, model)
        self._reconstructor = self._run("reconstruct", self._reconstruct)
        self._recorder = self._run("record", partial(self.recording.work, self._all_received))
        for number, intake in enumerate(self.intakes):
            self._workers.append(self._run(f"intake-{number}", partial(self._receive, intake)))
        if s.refine:
            self._workers.append(self._run("refine", partial(self.refiner.work, self._stopping)))
        improver = Improver(self._workforce, lambda: self.engine, self._take_faster)
        self._workers.append(self._run("improve", partial(improver.work, self._stopping)))

    def stop(self) -> None:
        """End the running scan, write its result, close everything.

        What waits in the inbox is reconstructed as far as a few seconds allow; the rest is dropped and
        counted under "stopped".
        """
        self._stopping.set()
        self.inbox.lift()
        for thread in self._workers:
            thread.join()
        self._all_received.set()
        for last in (self._reconstructor, self._recorder):
            if last is not None:
                last.join()
        for intake in self.intakes:
            intake.source.close()
        if self._publisher is not None:
            self._publisher.close()
        self.engine.close()
        self._workforce.close()
        self.store.close()
        self.keeper.close()

    @property
    def tiles_endpoint(self) -> str | None:
        """Where tiles are published, the port filled in; None where they are not."""
        return None if self._publisher is None else self._publisher.endpoint

    def queues(self) -> dict[str, int]:
        """Return how many frames wait, by queue."""
        run = self._journey.run
        waiting = 0 if run is None else run.joiner.waiting
        return {"inbox": self.inbox.frames, "join": waiting, "disk": self.recording.backlog}

    def activate(self, bundle: str) -> Bundle:
        """Go on with another model at the next batch border; return it when that is done.

        Raises:
            ConfigError, EngineError: it is refused, with the reason; the old one goes on.
        """
        engine = self._workforce.load(bundle)
        try:
            self._orders.ask(partial(self._swap_engine, engine))
        except PtycholiveError:
            engine.close()
            raise
        return engine.bundle

    def abort(self, scan: str) -> None:
        """End the running scan now: what can be placed is, the rest is counted under "aborted".

        Raises:
            ConfigError: it is not running.
            EngineError: the service is overloaded, or stopping.
        """
        self._orders.ask(partial(self._abort, scan))

    def orient(self, orientation: Orientation, axes: Orientation) -> None:
        """Turn the frames and the positions of the next scans so.

        Raises:
            ConfigError: a scan is running; its frames must not lie in two ways.
        """
        if (run := self.runs.current()) is not None:
            raise ConfigError(f"scan {run.scan} is running: orientation is changed between scans")
        self.door.orient(orientation, axes)

    @property
    def aligns(self) -> bool:
        """Whether each tile of the next scans is turned to fit those before it."""
        return self._journey.aligns

    def align(self, on: bool) -> None:
        """Turn each tile of the next scans to fit those before it, or leave them as they are."""
        self._journey.align(on)

    def warn(self, line: str) -> None:
        """Tell the operator, in the log and on the page, once."""
        if line not in self.warnings:
            log.warning(line)
            self.warnings.append(line)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the service is stopped or has failed; False when the time ran out first."""
        return self._stopping.wait(timeout_s)

    # What the journey tells

    def scan_started(self, run: ScanRun) -> None:
        """Show the new scan."""
        log.info("scan %s started", run.scan)
        self.keeper.begin(run)
        self.runs.add(run)
        told = self.engine.bundle.description
        self.recent = RecentFrames(run.scan, _RECENT_BYTES, told.invalid_counts, run.start.saturation)
        if self.settings.refine:
            self.refiner.begin(run, self.engine.bundle)
        if self._publisher is not None:
            self._publisher.event(run.scan, "started", {"ledger": run.ledger.counts().as_dict()})

    def batch_stitched(self, run: ScanRun, painted: Painted) -> None:
        """Publish and measure."""
        now_ns, tiles, metrics = time.time_ns(), painted.tiles, self.metrics
        self.refiner.add(run, painted)
        if self.recent is not None:
            self.recent.add(tiles.indices, tiles.positions_m, painted.counts)
        if self._publisher is not None:
            self._publisher.tiles(tiles, run.model, run.object_pixel_m, now_ns)
        metrics.stage_seconds("infer", painted.infer_s)
        metrics.stage_seconds("stitch", painted.stitch_s)
        metrics.batch_frames.observe(len(tiles.indices))
        for latency_ns in (now_ns - tiles.received_ns).tolist():
            metrics.frame_to_mosaic_seconds.observe(latency_ns * 1e-9)
        if run.residual is not None:
            metrics.forward_residual.set(run.residual)

    def scan_finished(self, run: ScanRun) -> None:
        """Keep its result."""
        counts = run.ledger.counts()
        log.info("scan %s finished: %s", run.scan, counts.in_words())
        self.metrics.agreement.set(run.mosaic.agreement_mean())
        self.metrics.confidence.set(run.mosaic.confidence_mean())
        self.runs.finish(run)
        self.refiner.finish(run)
        self.refiner.forget_but(self.runs.newest_first())
        if self._publisher is not None:
            self._publisher.event(run.scan, "finished", {"ledger": counts.as_dict()})
        writing = self.store.save(run, self.engine.bundle)
        writing.add_done_callback(self._written)
        writing.add_done_callback(partial(self._saved, run))

    def _refined(self, run: ScanRun) -> None:
        """Put what idle time has made of a finished scan into its result."""
        refined = self.refiner.refined(run)
        if refined is not None:
            told = self.refiner.report(run) or {}
            self.store.save_refined(run.scan, refined, told).add_done_callback(self._written)

    def stray(self, line: str) -> None:
        """Count a frame that belongs to no running scan."""
        self.metrics.strays.inc()
        self.warn(line)

    # Threads

    def _run(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                log.exception("the thread %s failed", name)
                self._fail(error)

        thread = threading.Thread(target=guarded, name=name)
        thread.start()
        return thread

    def _fail(self, error: BaseException) -> None:
        """Stop because of a bug, so that whoever watches over the service starts it anew."""
        self.failure = error
        self._stopping.set()

    def _saved(self, run: ScanRun, writing: Future[bool]) -> None:
        if writing.exception() is None and writing.result():
            self.keeper.forget(run)

    def _written(self, writing: Future[Any]) -> None:
        error = writing.exception()
        if error is not None:
            log.error("the writing of a result failed", exc_info=error)
            self._fail(error)

    def _admit(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Let events in; what is recorded is what the detector sent, not what the door makes of it."""
        return self.door.admit(self.recording.take(tuple(events)))

    def _receive(self, intake: Intake) -> None:
        while not self._stopping.is_set():
            received = intake.source.receive(_POLL_S)
            if received is None:
                for line in intake.news_of_peers():
                    self.warn(line)
                continue
            intake.count(received, time.monotonic())
            self.keeper.hear(received)
            self._tell(received.events)
            if received.error is not None:
                self._refuse(intake, received.error)
            else:
                self.metrics.stage_seconds("decode", received.decode_s)
            intake.note(received.events)
            events = intake.keep(received.events)
            if events:
                self._hand_on(events, received.nbytes)

    def _hand_on(self, events: tuple[Event, ...], nbytes: int) -> None:
        if self.settings.overload == "drop":
            self.inbox.put_or_drop(events, nbytes)
            return
        while not self.inbox.put(events, nbytes, _POLL_S):
            pass  # the budget is lifted when the service stops

    def _tell(self, events: Iterable[Event]) -> None:
        """Show notices, whether or not a scan runs; the journey notes them with the scan."""
        for event in events:
            if isinstance(event, Notice):
                self.warn(event.line)

    def _refuse(self, intake: Intake, error: StreamError) -> None:
        self.metrics.refused.labels(intake.source.endpoint).inc()
        if (line := intake.refuse(error)) is not None:
            self.warn(line)

    def _reconstruct(self) -> None:
        journey = self._journey
        try:
            self._resume(journey)
            while not self._all_received.is_set():
                events = self.inbox.get(_TICK_S)
                self._at_work = True
                for event in events:
                    journey.handle(event, time.monotonic())
                journey.tick(time.monotonic(), idle=not len(self.inbox))
                self._at_work = False
                self._orders.carry_out()
                self.keeper.look(journey.run, self.engine.bundle.description, time.monotonic())
            self._empty_inbox(journey)
        finally:
            journey.close()

    def _resume(self, journey: Reconstruction) -> None:
        folder = self.settings.record
        recordings = None if folder is None else Path(folder)
        resumer = Resumer(journey, recordings, time.monotonic, time.time_ns, self.warn)
        go_on(self._left, resumer, self.keeper, log.warning)
        self._left = []

    def _empty_inbox(self, journey: Reconstruction) -> None:
        patience_s = time.monotonic() + _STOP_S
        while len(self.inbox):
            for event in self.inbox.get(0):
                now_s = time.monotonic()
                journey.handle(event if now_s < patience_s else _given_up(event), now_s)

    def _quiet(self) -> bool:
        """Whether nothing waits and nothing came for a while, so that there is time to refine."""
        last_s = max((intake.last_s or 0.0 for intake in self.intakes), default=0.0)
        return not (self._at_work or len(self.inbox)) and time.monotonic() - last_s > _QUIET_S

    def _take_faster(self, running: EnginePool, faster: EnginePool) -> None:
        """Go on with the same model on another engine at the next batch border."""
        self._orders.ask(partial(self._swap_if_unchanged, running, faster))

    def _swap_if_unchanged(self, running: EnginePool, faster: EnginePool) -> None:
        if self.engine is not running:
            raise ConfigError("another model was activated meanwhile")
        self._swap_engine(faster)

    def _swap_engine(self, engine: EnginePool) -> None:
        self._journey.swap(engine)
        self.engine.close()
        self.engine = engine
        self._note_engine(engine)

    def _worker_lost(self, line: str) -> None:
        self.metrics.workers_lost.inc()
        self.warn(line)

    def _abort(self, scan: str) -> None:
        run = self._journey.run
        if run is None or run.scan != scan:
            raise ConfigError(f"scan {scan} is not running: there is nothing to abort")
        for _ in range(len(self.inbox)):  # what comes meanwhile is too late
            for event in self.inbox.get(0):
                self._journey.handle(_too_late(event, scan), time.monotonic())
        self._journey.abort(run)

    def _note_engine(self, engine: EnginePool) -> None:
        engine.wake = self.inbox.wake  # tiles are stitched as soon as they are back
        self.metrics.engine(engine.backend, engine.device, engine.bundle.description.name)


def _given_up(event: Event) -> Event:
    if not isinstance(event, Image):
        return event
    return Rejected(event.scan, event.index, "stopped", "the service was stopped before its turn came")


def _too_late(event: Event, aborted: str) -> Event:
    if not isinstance(event, Image) or event.scan != aborted:
        return event
    return Rejected(event.scan, event.index, ABORTED, "the scan was aborted before its turn came")
