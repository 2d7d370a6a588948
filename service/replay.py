"""A detector made of a scan file: its messages, and a loop that sends them.

`messages` makes what a detector would send of one scan; `run_replay` owns the sockets and the clock.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.scans import ScanFile
from service.errors import ConfigError
from service.faults import Faults
from service.messages import Float64, ScanStart
from service.outlets import Destination, Lane, Outlet, open_outlets
from service.tcp_outlet import TcpOutlet
from service.wire.fields import legal_scan_name, made_legal
from service.wire.position_senders import POSITION_SENDERS, PositionSender, PositionsSending
from service.wire.senders import SENDERS, Encoding, Sender, Sending

Progress = Callable[[int, int], None]

FORMATS: Final = tuple(SENDERS)
POSITION_FORMATS: Final = tuple(POSITION_SENDERS)

_ENCODINGS: Final = get_args(Encoding)
_UNTOLD_FRAME_TIME_S: Final = 1e-3
_READ_BYTES: Final = 1 << 24
_WAITING_BYTES: Final = 1 << 26
_MOST_WAITING_MESSAGES: Final = 1000
_POSITIONS_A_MESSAGE: Final = 16


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """How a scan file is replayed.

    Attributes:
        scan: name of the scan, 1-128 of `[A-Za-z0-9._-]`; with `loop`, each round adds `-0001`, `-0002` …
        format: one of `FORMATS`.
        encoding: "raw", "lz4" or "bslz4".
        rate_hz: frames a second; None as fast as they are taken.
        loop: begin anew, for ever.
        faults: what happens to the messages that carry frames.
        frames: only so many; None all.
        frames_per_message: native only.
        positions: all in the "start" message, with the "frames" (native only), or as a "stream" of their own:
            to another endpoint.
        positions_format: of that stream, one of `POSITION_FORMATS`; "panda" is a PandA that listens.
        samples: encoder samples a frame, where that format has samples.
        series_id: number of the first series (dectris-v1, dectris-v2).
    """

    scan: str
    format: str = "native"
    encoding: Encoding = "bslz4"
    rate_hz: float | None = None
    loop: bool = False
    faults: Faults = field(default_factory=Faults)
    frames: int | None = None
    frames_per_message: int = 1
    positions: Literal["start", "frames", "stream"] = "start"
    positions_format: str = "native"
    samples: int = 1
    series_id: int = 1

    def __post_init__(self) -> None:
        """Refuse a plan that no detector could follow."""
        for wrong, what in self._checks():
            if wrong:
                raise ConfigError(f"replay: {what}")

    def _checks(self) -> Iterator[tuple[bool, str]]:
        formats = ", ".join(FORMATS)
        yield self.format not in SENDERS, f"format {self.format!r} is unknown; these can be sent: {formats}"
        yield self.encoding not in _ENCODINGS, f"encoding {self.encoding!r} is not raw, lz4 or bslz4"
        yield not legal_scan_name(self.scan), f"scan name {self.scan!r} is not 1-128 of [A-Za-z0-9._-]"
        yield self.rate_hz is not None and not 0 < self.rate_hz < math.inf, "the rate must be positive"
        yield self.frames is not None and self.frames < 1, "at least one frame must be sent"
        yield self.frames_per_message < 1, "at least one frame goes into a message"
        yield self.samples < 1, "there is at least one sample a frame"
        known = self.positions_format in POSITION_SENDERS
        yield not known, f"positions are sent as {', '.join(POSITION_FORMATS)}, not {self.positions_format!r}"
        if not SENDERS[self.format].whole_stacks:
            yield self.frames_per_message > 1, f"{self.format} carries one frame a message"
            yield self.positions == "frames", f"{self.format} carries no positions with its frames"


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """One message to send.

    Attributes:
        parts: the ZMQ parts.
        lane: which stream it belongs to.
        frames: how many frames it carries.
    """

    parts: list[bytes]
    lane: Lane = "detector"
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What a replay sent: whole scans, messages, and frames (second copies included)."""

    scans: int = 0
    messages: int = 0
    frames: int = 0


def scan_name(path: Path) -> str:
    """Return a legal scan name made of a file's name."""
    return made_legal(path.stem)


def messages(scan: ScanFile, plan: ReplayPlan, series: int = 0) -> Iterator[Outgoing]:
    """Yield the messages of one scan in the order to send them; only a few frames are held at a time.

    Args:
        scan: an open scan file.
        plan: how to send it.
        series: added to the plan's series number.

    Raises:
        ConfigError: the format cannot carry the scan's pixels, or an encoder is not installed.
        ScanFileError: the frames cannot be read.
    """
    numbers = _frame_numbers(scan, plan)
    track_m = _track_m(scan, numbers)
    sender = _sender(scan, plan, track_m, series)
    frames = _frame_messages(scan, plan, numbers, sender)
    yield Outgoing(sender.start())
    if plan.positions == "stream":
        positions = POSITION_SENDERS[plan.positions_format](
            PositionsSending(plan.scan, len(track_m), plan.samples, plan.series_id + series)
        )
        yield from (Outgoing(parts, "positions") for parts in positions.start())
        placed = _position_messages(positions, track_m)
        yield from _interleaved(plan.faults.applied(frames), placed, plan)
        yield Outgoing(positions.end(), "positions")
    else:
        yield from plan.faults.applied(frames)
    yield Outgoing(sender.end())


def run_replay(
    scan: ScanFile,
    plan: ReplayPlan,
    where: Destination,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Sent:
    """Send a scan over PUSH sockets until it is over, or for ever with `plan.loop`.

    Args:
        scan: an open scan file.
        plan: how to send it.
        where: the endpoints.
        progress: called with the frames sent so far and those to send, in this scan.
        stop: ends the replay when set.

    Raises:
        ConfigError: an endpoint is not usable, or the plan and the scan do not fit.
        ScanFileError: the frames cannot be read.
        StalledError: nobody took a message for `where.stall_s`.
    """
    if (where.positions_to is not None) != (plan.positions == "stream"):
        raise ConfigError('replay: positions as a "stream" and an endpoint for them go together')
    halt, panda = stop or threading.Event(), plan.positions_format == "panda"
    with open_outlets(where, panda, _most_waiting(scan, plan), halt) as lanes:
        return _send_rounds(scan, plan, lanes, _Schedule(plan.rate_hz), progress or _no_progress, halt)


def _frame_numbers(scan: ScanFile, plan: ReplayPlan) -> NDArray[np.int64]:
    """Return the numbers of the frames to send, as the detector counted them."""
    numbers = np.arange(len(scan)) if scan.frame_numbers is None else scan.frame_numbers
    return numbers[: plan.frames]


def _track_m(scan: ScanFile, numbers: NDArray[np.int64]) -> Float64:
    """Return positions y, x of all frames up to the last; those that a recording lacks lie on the way."""
    known_m = scan.positions_m[: len(numbers)]
    if scan.frame_numbers is None:
        return known_m
    every = np.arange(numbers[-1] + 1)
    return np.column_stack([np.interp(every, numbers, axis_m) for axis_m in known_m.T])


def _sender(scan: ScanFile, plan: ReplayPlan, track_m: Float64, series: int) -> Sender:
    sending = Sending(
        start=_scan_start(scan, plan, track_m),
        encoding=plan.encoding,
        series=plan.series_id + series,
        armed=datetime.now(UTC),
        frame_time_s=_UNTOLD_FRAME_TIME_S if plan.rate_hz is None else 1 / plan.rate_hz,
    )
    return SENDERS[plan.format](sending)


def _scan_start(scan: ScanFile, plan: ReplayPlan, track_m: Float64) -> ScanStart:
    planned_m = track_m if plan.positions == "start" else None
    return replace(start_of_file(scan, plan.scan), frames=len(track_m), positions_m=planned_m)


def start_of_file(scan: ScanFile, name: str) -> ScanStart:
    """Return what a detector that plays a scan file tells of it, with all of its positions."""
    return ScanStart(
        scan=name,
        frame_shape=scan.frame_shape,
        dtype=scan.dtype,
        frames=len(scan),
        wavelength_m=scan.wavelength_m,
        distance_m=scan.distance_m,
        detector_pixel_m=scan.detector_pixel_m,
        object_pixel_m=scan.object_pixel_m,
        saturation=scan.saturation,
        mask=scan.mask,
        positions_m=scan.positions_m,
        beam_px=scan.beam_px,
    )


def _frame_messages(
    scan: ScanFile, plan: ReplayPlan, numbers: NDArray[np.int64], sender: Sender
) -> Iterator[Outgoing]:
    for place, counts in _stacks(scan, numbers, plan.frames_per_message):
        told = scan.positions_m[place : place + len(counts)] if plan.positions == "frames" else None
        yield Outgoing(sender.frames(int(numbers[place]), counts, told), frames=len(counts))


def _stacks(
    scan: ScanFile, numbers: NDArray[np.int64], per_message: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (place of its first frame in the file, (n, H, W) frames) of each message; reads larger pieces."""
    frame_bytes = math.prod(scan.frame_shape) * scan.dtype.itemsize
    piece = max(1, _READ_BYTES // (frame_bytes * per_message)) * per_message
    for begin in range(0, len(numbers), piece):
        frames = scan.frames(slice(begin, min(begin + piece, len(numbers))))
        for run in _runs(numbers[begin : begin + piece], per_message):
            yield begin + run.start, frames[run]


def _runs(numbers: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Yield where numbers follow on one another, at most so many at a time: a message has no gap."""
    edges = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1), len(numbers)]
    for begin, end in itertools.pairwise(map(int, edges)):
        for first in range(begin, end, most):
            yield slice(first, min(first + most, end))


def _position_messages(sender: PositionSender, track_m: Float64) -> Iterator[Outgoing]:
    for first in range(0, len(track_m), _POSITIONS_A_MESSAGE):
        positions_m = track_m[first : first + _POSITIONS_A_MESSAGE]
        yield Outgoing(sender.positions(first, positions_m), "positions")


def _interleaved(
    frames: Iterable[Outgoing], positions: Iterator[Outgoing], plan: ReplayPlan
) -> Iterator[Outgoing]:
    """Yield positions among the frames about when a motion controller would send them."""
    every = max(1, _POSITIONS_A_MESSAGE // plan.frames_per_message)
    for number, message in enumerate(frames):
        if number % every == 0:
            yield from itertools.islice(positions, 1)
        yield message
    yield from positions


class _Schedule:
    """When the next frame is due: by the clock, so that a slow frame does not delay all that follow."""

    def __init__(self, rate_hz: float | None) -> None:
        self._period_s = 0.0 if rate_hz is None else 1 / rate_hz
        self._began_s: float | None = None  # with the first frame: until it is read, nothing is late
        self._frames = 0

    def wait(self, frames: int, stop: threading.Event) -> None:
        """Wait until `frames` more are due, or until told to stop."""
        if self._began_s is None and frames:
            self._began_s = time.monotonic()
        ahead_s = (self._began_s or 0.0) + self._frames * self._period_s - time.monotonic()
        self._frames += frames
        if self._period_s and ahead_s > 0:
            stop.wait(ahead_s)


def _send_rounds(
    scan: ScanFile,
    plan: ReplayPlan,
    lanes: Mapping[Lane, Outlet | TcpOutlet],
    schedule: _Schedule,
    progress: Progress,
    stop: threading.Event,
) -> Sent:
    sent = Sent()
    for series in itertools.count() if plan.loop else range(1):
        named = replace(plan, scan=f"{plan.scan}-{series + 1:04d}") if plan.loop else plan
        total = min(plan.frames or len(scan), len(scan))
        before = sent.frames
        for message in messages(scan, named, series):
            schedule.wait(message.frames, stop)
            if not lanes[message.lane].send(message.parts):
                return sent
            sent = replace(sent, messages=sent.messages + 1, frames=sent.frames + message.frames)
            if message.frames:
                progress(sent.frames - before, total)
        sent = replace(sent, scans=sent.scans + 1)
    return sent


def _no_progress(_sent: int, _total: int) -> None:
    """Show nothing."""


def _most_waiting(scan: ScanFile, plan: ReplayPlan) -> int:
    """Return how many messages may wait to be sent: bounded in bytes, as if nothing were compressed."""
    message_bytes = math.prod(scan.frame_shape) * scan.dtype.itemsize * plan.frames_per_message
    return max(2, min(_MOST_WAITING_MESSAGES, _WAITING_BYTES // message_bytes))
