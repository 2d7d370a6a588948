"""Recording while frames are stitched: the tap in the stream, the backlog, and the thread that writes.

The intakes hand every message's events to `take`, which never waits. When the disk cannot keep up, the
recording loses frames, by number and with a count; the reconstruction does not notice.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from service.errors import ConfigError
from service.messages import Event, Image, Notice, ScanEnd, ScanStart
from service.recording.backlog import Backlog
from service.recording.chunks import packed_image
from service.recording.recorder import Recorder, RecorderSettings, Say

_POLL_S: Final = 0.1
_ITEMS_A_TICK: Final = 64
_STOP_S: Final = 10.0


class Recording:
    """Switches the recorder on and off, and feeds it.

    Args:
        settings: of the recorder; None: nothing can be recorded.
        budget_bytes: of frames that wait for the disk.
        tell: is told a line of each file that is whole.
        warn: is told a line of what could not be written.

    Raises:
        ConfigError: the folder cannot be made, or written.
    """

    def __init__(self, settings: RecorderSettings | None, budget_bytes: int, tell: Say, warn: Say) -> None:
        self._settings = settings
        self._backlog = Backlog(budget_bytes)
        self._running: ScanStart | None = None  # of the detector's stream
        self._is_on = settings is not None
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        if settings is not None:
            _make(settings)
            self._recorder = Recorder(settings, tell, warn)

    @property
    def backlog(self) -> int:
        """How many messages wait for the disk."""
        return len(self._backlog)

    @property
    def files(self) -> int:
        """How many scan files are whole."""
        return 0 if self._recorder is None else self._recorder.files

    def switch(self, on: bool) -> None:
        """Begin to record, with the scan that runs if one does; or end the file that is being written.

        Raises:
            ConfigError: no folder is set.
        """
        if self._recorder is None:
            raise ConfigError("nothing can be recorded: start the service with record set to a folder")
        with self._lock:
            if on and not self._is_on and self._running is not None:
                self._backlog.put(self._running)
            self._is_on = on

    def take(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Record what a message said, if told to; return it without the pixels as they came."""
        with self._lock:
            for event in events:
                self._follow(event)
                if self._is_on and not isinstance(event, Notice):
                    self._backlog.put(packed_image(event) if isinstance(event, Image) else event)
        return tuple(map(_unpacked, events))

    def work(self, all_received: threading.Event) -> None:
        """Write until nothing comes any more; for a thread of its own."""
        recorder = self._recorder
        if recorder is None:
            return
        while not all_received.is_set():
            self._write_some(recorder)
        patience_s = time.monotonic() + _STOP_S
        while self.backlog and time.monotonic() < patience_s:
            self._write_some(recorder)
        recorder.close()

    def report(self) -> dict[str, Any]:
        """Return what the API says of it: plain values."""
        recorder = self._recorder
        scan, frames = (None, 0) if recorder is None else recorder.progress()
        last = None if recorder is None else recorder.last_file
        return {
            "on": self._is_on,
            "folder": None if self._settings is None else str(self._settings.folder),
            "scan": scan,
            "frames": frames,
            "lost": self._backlog.lost,
            "files": self.files,
            "last_file": None if last is None else last.name,
        }

    def _follow(self, event: Event) -> None:
        """Remember the start of the scan that runs, for a recording that is switched on in its middle."""
        if isinstance(event, ScanStart):
            self._running = event
        elif isinstance(event, ScanEnd) and self._running is not None and event.scan == self._running.scan:
            self._running = None

    def _write_some(self, recorder: Recorder) -> None:
        if not self._is_on and not self.backlog:
            recorder.close()
        for _ in range(_ITEMS_A_TICK):
            item = self._backlog.get(_POLL_S)
            if item is None:
                break
            recorder.handle(item, time.monotonic())
        recorder.tick(time.monotonic())


def _make(settings: RecorderSettings) -> None:
    folder, trial = settings.folder, settings.folder / ".ptycholive"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ConfigError(f"scans cannot be recorded in {folder}: {error.strerror}") from error


def _unpacked(event: Event) -> Event:
    """Return an event without the bytes that its pixels came in: from here on they only take memory."""
    if isinstance(event, Image) and event.packed is not None:
        return Image(event.scan, event.index, event.counts, event.received_ns)
    return event
