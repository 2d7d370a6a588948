"""Keeps the running scan, so that another process can go on with it if this one is killed.

The intake tells it of every message, and it notes which frames came. The thread that reconstructs hands it
a consistent copy of the scan from time to time, and a thread of its own writes that down. When the result of
the scan is written, what was kept of it is removed.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.bundle import BundleDescription
from service.messages import Image, Rejected, ScanStart
from service.resume.leftover import PUT_ASIDE, Leftover, find_leftovers
from service.resume.preludes import Preludes
from service.resume.run_folder import RunFolder
from service.resume.snapshot import Identity, Opening
from service.scan_run import RunState, ScanRun
from service.sources import Received

RUNNING: Final = ".running"

_MOST_SHARE: Final = 0.02  # of a processor's time may go into writing; a large mosaic is kept less often
_MOST_WAITING: Final = 3  # scans whose start was heard, and that wait in the inbox to be begun


@dataclass(slots=True, eq=False)
class _Kept:
    """The scan that runs.

    Attributes:
        run, folder: the scan, and where it is kept.
        seen: version of the mosaic up to which its blocks have been handed on.
        due_s: when the next snapshot is to be taken.
        cost_s: of processor time that the last one took to write.
    """

    run: ScanRun
    folder: RunFolder
    seen: int
    due_s: float = 0.0
    cost_s: float = 0.0

    def write(self, state: RunState, identity: Identity) -> None:
        """Write a snapshot; raises OSError."""
        begun_s = time.thread_time()
        self.folder.write(state, identity, self.run.mosaic.block_px)
        self.cost_s = time.thread_time() - begun_s


class RunKeeper:
    """Keeps one scan at a time, in a folder beside the results.

    Args:
        results: folder of the results.
        every_s: from one snapshot to the next; 0: nothing is kept.
        warn: is told a line of what cannot be kept.
        failed: is told of a bug.
    """

    def __init__(
        self,
        results: Path,
        every_s: float,
        warn: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._results = results
        self._every_s = every_s
        self._warn = warn
        self._failed = failed
        self._opened: dict[str, RunFolder] = {}  # by scan, the newest last
        self._kept: _Kept | None = None
        self._folders: dict[ScanRun, RunFolder] = {}
        self._writing: Future[None] | None = None
        self._preludes = Preludes()
        self._opening = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._lock = self._locked() if every_s else None

    def leftovers(self) -> list[Leftover]:
        """Return what services that went down kept of scans, the oldest first; put aside what is damaged."""
        if self._lock is None:
            return []
        found, refused = find_leftovers(self._results / RUNNING)
        for path, why in refused:
            self.put_aside(path, why)
        return found

    def put_aside(self, path: Path, why: object) -> None:
        """Move away what cannot be gone on with, and say so."""
        aside = self._results / PUT_ASIDE / path.name
        try:
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
        except OSError as error:
            self._tell(error)
            return
        self._warn(f"what was kept of a scan when the service went down is put aside, in {aside}: {why}")

    def adopt(self, left: Leftover) -> None:
        """Go on in the folder of a scan that is gone on with; call it before the scan is begun."""
        try:
            self._opened[left.scan] = RunFolder(left.path, left.snapshot)
        except OSError as error:
            self._tell(error)

    def open(self, opening: Opening) -> None:
        """Make the folder of a scan that was announced."""
        if self._lock is None:
            return
        path = self._results / RUNNING / f"{opening.scan}.{time.time_ns()}"
        try:
            folder = RunFolder(path)
        except OSError as error:
            self._tell(error)
            return
        with self._opening:
            begun = set(self._folders.values())
            before = self._opened.pop(opening.scan, None)
            waiting = [scan for scan, other in self._opened.items() if other not in begun]
            unused = [self._opened.pop(scan) for scan in waiting[:-_MOST_WAITING]]
            self._opened[opening.scan] = folder
        if before is not None and before not in begun:
            unused.append(before)
        self._submit(folder.open, opening)
        for old in unused:
            self._submit(old.remove)

    def hear(self, received: Received) -> None:
        """Note what a message of the detector says; called before its events go on."""
        if received.parts and not received.events:
            self._preludes.add(received)
        for event in received.events:
            if isinstance(event, (Image, Rejected)):
                self._note(event.scan, event.index)
            elif isinstance(event, ScanStart):
                known = self._opened.get(event.scan)
                if known is None or (known.arrivals.any and not event.assumed):
                    self.open(self._preludes.opening(event.scan, received))

    def begin(self, run: ScanRun) -> None:
        """Keep the scan that begins."""
        folder = self._opened.get(run.scan)
        if folder is None:
            self._kept = None
            return
        with self._opening:
            self._folders[run] = folder
        self._kept = _Kept(run, folder, run.mosaic.version)

    def look(self, run: ScanRun | None, model: BundleDescription, now_s: float) -> None:
        """Take a copy of the running scan if it is time to; between two events, on any steady clock."""
        kept = self._kept
        if kept is None or run is not kept.run or now_s < kept.due_s or self._busy():
            return
        kept.due_s = now_s + max(self._every_s, kept.cost_s / _MOST_SHARE)
        state = run.state(kept.seen)
        kept.seen = state.mosaic.version
        self._writing = self._submit(kept.write, state, Identity.of(run.start, model))

    def forget(self, run: ScanRun) -> None:
        """Remove what was kept of a scan whose result is written; any thread may call it."""
        with self._opening:
            folder = self._folders.pop(run, None)
            if folder is None:
                return
            if self._opened.get(run.scan) is folder:
                del self._opened[run.scan]
        self._submit(folder.remove)

    def close(self) -> None:
        """Stop; of scans whose results are written nothing is left."""
        self._thread.shutdown()
        for folder in {*self._opened.values()}.difference(self._folders.values()):
            folder.remove()
        for folder in self._folders.values():
            folder.close()
        if self._lock is not None:
            os.close(self._lock)
            running = self._results / RUNNING
            if running.is_dir() and not any(running.iterdir()):
                running.rmdir()

    def _note(self, scan: str, index: int) -> None:
        folder = self._opened.get(scan)
        if folder is None:
            return
        try:
            folder.arrivals.note(index)
        except OSError as error:
            self._tell(error)

    def _busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _submit(self, work: Callable[..., None], *arguments: Any) -> Future[None]:
        future = self._thread.submit(work, *arguments)
        future.add_done_callback(self._done)
        return future

    def _done(self, written: Future[None]) -> None:
        error = written.exception()
        if isinstance(error, OSError):
            if (kept := self._kept) is not None:
                kept.seen = -1  # what was handed on is lost: the next snapshot must hold every block
            self._tell(error)
        elif error is not None:
            self._failed(error)

    def _tell(self, error: OSError) -> None:
        self._warn(
            f"the running scan cannot be kept in {self._results} ({error.strerror}): if the service "
            "goes down now, what is stitched is lost"
        )

    def _locked(self) -> int | None:
        """Return the open folder, ours alone; None where it is another service's, or cannot be had."""
        folder = self._results / RUNNING
        try:
            folder.mkdir(parents=True, exist_ok=True)
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self._tell(error)
            return None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(opened)
            self._warn(
                f"another service writes its results to {self._results}: this one cannot go on with a scan "
                "if it goes down; give it a folder of its own"
            )
            return None
        return opened
