"""Events in, scan files out: which scan a frame is of, when a scan is over, and what the operator is told.

One thread calls it; it is told the time. Frames are written as they come, whatever their order; the file is
`NAME.part.cxi` until the scan is over, then `NAME.cxi`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from service.early_positions import EARLY_BYTES, UNNAMED, EarlyPositions
from service.errors import PixelError, RecordingError
from service.ledger import Ledger
from service.messages import Positions, PositionsArmed, Rejected, ScanEnd, ScanStart
from service.recording.backlog import Item
from service.recording.chunks import PackedImage
from service.recording.layout import DISK_FULL, DISK_TOO_SLOW, REASONS
from service.recording.scan_writer import ScanWriter
from service.wire.pixels import DEFAULT_LIMITS

Say = Callable[[str], None]

_MOST_OPEN: Final = 4  # scans: one runs; frames of another whose start was missed may come meanwhile
_FLUSH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Where to, and when a scan is over.

    Attributes:
        folder: of the scan files.
        end_grace_s: how long after a scan's end late frames and positions are taken.
        idle_end_s: how long a scan whose source tells no end may be quiet.
        origin: where the stream comes from, for the file: a word, and a few words.
    """

    folder: Path
    end_grace_s: float = 2.0
    idle_end_s: float = 30.0
    origin: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True, eq=False)
class _Scan:
    """A scan that is being recorded; its file is made with its first frame."""

    start: ScanStart
    ledger: Ledger
    last_s: float
    early: list[Positions] = field(default_factory=list)
    writer: ScanWriter | None = None
    end_told: bool = False
    is_cut_short: bool = False

    @property
    def name(self) -> str:
        return self.start.scan


class Recorder:
    """Records the scans of one detector.

    Args:
        settings: where to, and when a scan is over.
        tell: is told a line of each file that is whole.
        warn: is told a line of what could not be written.
    """

    def __init__(self, settings: RecorderSettings, tell: Say, warn: Say) -> None:
        self._settings = settings
        self._tell = tell
        self._warn = warn
        self._open: dict[str, _Scan] = {}  # the newest last
        self._early = EarlyPositions(EARLY_BYTES)
        self._flushed_s = 0.0
        self.files = 0  # that are whole
        self.last_file: Path | None = None

    def progress(self) -> tuple[str | None, int]:
        """Return the newest scan that is not over, and how many frames of it are written; any thread may."""
        newest = self._newest()
        return (None, 0) if newest is None else (newest.name, newest.ledger.counts().stitched)

    def handle(self, item: Item, now_s: float) -> None:
        """Take what came."""
        match item:
            case ScanStart():
                self._start(item, now_s)
            case PackedImage():
                self._image(item, now_s)
            case Positions():
                self._positions(item, now_s)
            case Rejected():
                self._rejected(item, now_s)
            case ScanEnd():
                self._end(item, now_s)
            case PositionsArmed():
                running = self._newest()
                self._early.arm(unused=running is None or not running.ledger.counts().received)

    def tick(self, now_s: float) -> None:
        """Let time pass: flush, and end what is over."""
        for scan in list(self._open.values()):
            quiet_s = now_s - scan.last_s
            if scan.end_told and quiet_s >= self._settings.end_grace_s:
                self._finish(scan, "end")
            elif not scan.start.has_end and quiet_s >= self._settings.idle_end_s:
                self._finish(scan, "idle")
        if now_s - self._flushed_s >= _FLUSH_S:
            self._flushed_s = now_s
            for scan in self._open.values():
                self._flush(scan)

    def close(self) -> None:
        """End all files: nothing more is to be recorded."""
        for scan in list(self._open.values()):
            self._finish(scan, "end" if scan.end_told else "stopped")

    def _newest(self) -> _Scan | None:
        scans = list(self._open.values())
        return scans[-1] if scans else None

    def _start(self, start: ScanStart, now_s: float) -> None:
        known = self._open.get(start.scan)
        if known is not None and (start.assumed or not known.ledger.counts().received):
            return  # a second copy
        for scan in list(self._open.values()):
            if not start.assumed or len(self._open) >= _MOST_OPEN:
                self._finish(scan, "end" if scan.end_told else "next scan")
        planned = [] if start.positions_m is None else [Positions(start.scan, 0, start.positions_m)]
        early = planned + self._early.begin(start.scan)
        self._open[start.scan] = _Scan(start, Ledger(start.frames), now_s, early)

    def _image(self, image: PackedImage, now_s: float) -> None:
        scan = self._arrived(image.scan, image.index, now_s)
        if scan is None:
            return
        if scan.is_cut_short:
            scan.ledger.drop(image.index, DISK_FULL)
            return
        try:
            self._writer(scan, image).frame(image.index, image.pixels)
            scan.ledger.stitch(image.index)  # of a recording: written
        except PixelError:
            scan.ledger.drop(image.index, "undecodable")
        except RecordingError as error:
            scan.ledger.drop(image.index, DISK_FULL)
            self._cut_short(scan, error)

    def _arrived(self, name: str, index: int, now_s: float) -> _Scan | None:
        """Return the scan of a frame; None where none is recorded, or the frame came before."""
        scan = self._open.get(name)
        if scan is None:
            return None
        scan.last_s = now_s
        return scan if scan.ledger.receive(index) else None

    def _writer(self, scan: _Scan, first: PackedImage) -> ScanWriter:
        if scan.writer is None:
            path = _free_name(self._settings.folder, scan.name)
            scan.writer = ScanWriter(path, scan.start, first.pixels, dict(self._settings.origin))
            for positions in scan.early:
                scan.writer.place(positions.first, positions.positions_m)
            scan.early.clear()
        return scan.writer

    def _positions(self, positions: Positions, now_s: float) -> None:
        newest, owner = self._newest(), positions.scan
        if owner == UNNAMED:
            owner = self._early.owner(positions, newest.name if newest else None) or UNNAMED
        scan = self._open.get(owner)
        if scan is None:
            self._early.keep(positions)
            return
        if positions.first + len(positions.positions_m) > DEFAULT_LIMITS.max_scan_frames:
            return
        scan.last_s = max(scan.last_s, now_s)
        if scan.writer is None:
            scan.early.append(positions)
        elif not scan.is_cut_short:
            scan.writer.place(positions.first, positions.positions_m)

    def _rejected(self, rejected: Rejected, now_s: float) -> None:
        scan = self._arrived(rejected.scan, rejected.index, now_s)
        if scan is not None:
            scan.ledger.drop(rejected.index, rejected.reason if rejected.reason in REASONS else "undecodable")

    def _end(self, end: ScanEnd, now_s: float) -> None:
        scan = self._open.get(end.scan)
        if scan is None or scan.end_told:
            return
        if end.frames is not None:
            scan.ledger.expect(end.frames)
        scan.end_told, scan.last_s = True, now_s

    def _flush(self, scan: _Scan) -> None:
        if scan.writer is None or scan.is_cut_short:
            return
        try:
            scan.writer.flush(scan.ledger.counts().as_dict())
        except RecordingError as error:
            self._cut_short(scan, error)

    def _cut_short(self, scan: _Scan, error: RecordingError) -> None:
        scan.is_cut_short = True
        self._warn(f"the recording of {scan.name} ends here, the scan goes on: {error}")

    def _finish(self, scan: _Scan, ended: str) -> None:
        del self._open[scan.name]
        self._early.end()
        scan.ledger.close()
        ended = "disk" if scan.is_cut_short else ended
        if scan.writer is None:
            self._warn(f"scan {scan.name} is not recorded: no frame of it was written")
            return
        try:
            unplaced = scan.writer.close(scan.ledger.counts().as_dict(), ended)
            final = scan.writer.path.with_suffix("").with_suffix(".cxi")
            scan.writer.path.rename(final)
        except (RecordingError, OSError) as error:
            self._warn(f"the recording of {scan.name} stays {scan.writer.path.name}: {error}")
            return
        self.files, self.last_file = self.files + 1, final
        say = self._warn if unplaced or _lost_to_disk(scan) else self._tell
        say(f"{final}: {_in_words(scan, unplaced, ended)}")


def _lost_to_disk(scan: _Scan) -> bool:
    return not {DISK_FULL, DISK_TOO_SLOW}.isdisjoint(scan.ledger.counts().dropped)


def _in_words(scan: _Scan, unplaced: int, ended: str) -> str:
    clauses = [scan.ledger.counts().in_words("recorded")]
    if unplaced:
        clauses.append(f"{unplaced} have no position")
    if ended != "end":
        clauses.append(f"no end was told ({ended})")
    return "; ".join(clauses)


def _free_name(folder: Path, scan: str) -> Path:
    """Return where to record a scan; one of the same name keeps its file."""
    if (folder / f"{scan}.cxi").exists() or (folder / f"{scan}.part.cxi").exists():
        scan = f"{scan}_{datetime.now(UTC):%Y%m%dT%H%M%S_%fZ}"
    return folder / f"{scan}.part.cxi"
