"""Recording alone: sockets in, scan files out; no engine, no bundle, no page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from service.config import Settings
from service.errors import ConfigError
from service.intake import Intake, open_intakes
from service.recording.recording import Recording
from service.recording.settings import recorder_settings

_POLL_S: Final = 0.1


def record(settings: Settings, tell: Callable[[str], None], scans: int | None = None) -> None:
    """Take the streams and record them until interrupted; on the way out the running scan's file is ended.

    Args:
        settings: where from, and in `record` where to.
        tell: is told a line for the operator: of each source, of each scan, of what could not be used.
        scans: end after so many scan files; None: never.

    Raises:
        ConfigError: an endpoint or the folder cannot be had.
    """
    where = recorder_settings(settings)
    if where is None:
        raise ConfigError("there is no folder to record to: set record")
    say = _once(tell)
    recording = Recording(where, settings.record_mib << 20, tell, tell)
    stopping, all_received = threading.Event(), threading.Event()
    with ExitStack() as stack:
        intakes = []
        for intake in open_intakes(settings):
            stack.enter_context(intake.source)
            intakes.append(intake)
        writer = stack.enter_context(ThreadPoolExecutor(1, "record"))
        stack.callback(all_received.set)
        receivers = stack.enter_context(ThreadPoolExecutor(len(intakes), "intake"))
        stack.callback(stopping.set)
        work = [writer.submit(recording.work, all_received)]
        work += [receivers.submit(_receive, intake, recording, stopping, say) for intake in intakes]
        for intake in intakes:
            tell(f"{intake.role}: {intake.stream_format} from {intake.source.endpoint}")
        _wait(recording, work, scans)


def _receive(
    intake: Intake, recording: Recording, stopping: threading.Event, tell: Callable[[str], None]
) -> None:
    while not stopping.is_set():
        received = intake.source.receive(_POLL_S)
        if received is None:
            for news in intake.news_of_peers():
                tell(news)
            continue
        intake.count(received, time.monotonic())
        intake.note(received.events)
        recording.take(intake.keep(received.events))
        if received.error is not None:
            line = intake.refuse(received.error)
            if line is not None:
                tell(line)


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what tells each line once: that somebody was refused is noticed again and again."""
    told: set[str] = set()

    def say(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    return say


def _wait(recording: Recording, work: Sequence[Future[None]], scans: int | None) -> None:
    while scans is None or recording.files < scans:
        for ended in (future for future in work if future.done()):
            ended.result()  # a bug: nobody else would see it
        time.sleep(_POLL_S)
