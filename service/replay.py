"""A detector made of a scan file: its messages, and a loop that sends them.

`messages` makes what a detector would send of one scan; `run_replay` owns the sockets and the clock.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import zmq
from numpy.typing import NDArray

from model.scans import ScanFile
from service.errors import ConfigError, StalledError
from service.faults import Faults
from service.messages import Positions, ScanEnd, ScanStart
from service.sources import check_endpoint, open_endpoint
from service.wire import native
from service.wire.fields import legal_scan_name, made_legal
from service.wire.senders import SENDERS, Encoding, Sender, Sending

Lane = Literal["detector", "positions"]
Progress = Callable[[int, int], None]

FORMATS: Final = tuple(SENDERS)

_ENCODINGS: Final = get_args(Encoding)
_UNTOLD_FRAME_TIME_S: Final = 1e-3
_READ_BYTES: Final = 1 << 24
_WAITING_BYTES: Final = 1 << 26
_MOST_WAITING_MESSAGES: Final = 1000
_POSITIONS_A_MESSAGE: Final = 16
_LINGER_MS: Final = 30_000
_LINGER_STOPPED_MS: Final = 200
_POLL_MS: Final = 50


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
            native positions messages to another endpoint.
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
    count = min(plan.frames or len(scan), len(scan))
    sender = _sender(scan, plan, count, series)
    frames = _frame_messages(scan, plan, count, sender)
    yield Outgoing(sender.start())
    if plan.positions == "stream":
        yield from _interleaved(plan.faults.applied(frames), _position_messages(plan.scan, scan, count), plan)
        yield Outgoing(native.encode_end(ScanEnd(plan.scan, count)), "positions")
    else:
        yield from plan.faults.applied(frames)
    yield Outgoing(sender.end())


def run_replay(
    scan: ScanFile,
    plan: ReplayPlan,
    to: str,
    *,
    positions_to: str | None = None,
    bind: bool = False,
    allow_remote: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    stall_s: float = 30.0,
) -> Sent:
    """Send a scan over PUSH sockets until it is over, or for ever with `plan.loop`.

    Args:
        scan: an open scan file.
        plan: how to send it.
        to: endpoint of the detector's stream.
        positions_to: endpoint of the positions' stream, for `plan.positions == "stream"`.
        bind: listen there, as real detectors do, instead of connecting.
        allow_remote: let other machines connect where it binds.
        progress: called with the frames sent so far and those to send, in this scan.
        stop: ends the replay when set.
        stall_s: how long nobody may take a message.

    Raises:
        ConfigError: an endpoint is not usable, or the plan and the scan do not fit.
        ScanFileError: the frames cannot be read.
        StalledError: nobody took a message for `stall_s`.
    """
    if (positions_to is not None) != (plan.positions == "stream"):
        raise ConfigError('replay: positions as a "stream" and an endpoint for them go together')
    halt = stop or threading.Event()
    waiting = _most_waiting(scan, plan)
    with zmq.Context() as context, ExitStack() as stack:
        lanes: dict[Lane, _Outlet] = {}
        for lane, endpoint in (("detector", to), ("positions", positions_to)):
            if endpoint is not None:
                check_endpoint(endpoint, bind=bind, allow_remote=allow_remote)
                outlet = stack.enter_context(_outlet(context, endpoint, bind, waiting, halt, stall_s))
                lanes[cast(Lane, lane)] = outlet
        return _send_rounds(scan, plan, lanes, _Schedule(plan.rate_hz), progress or _no_progress, halt)


def _sender(scan: ScanFile, plan: ReplayPlan, count: int, series: int) -> Sender:
    sending = Sending(
        start=_scan_start(scan, plan, count),
        encoding=plan.encoding,
        series=plan.series_id + series,
        armed=datetime.now(UTC),
        frame_time_s=_UNTOLD_FRAME_TIME_S if plan.rate_hz is None else 1 / plan.rate_hz,
    )
    return SENDERS[plan.format](sending)


def _scan_start(scan: ScanFile, plan: ReplayPlan, count: int) -> ScanStart:
    return ScanStart(
        scan=plan.scan,
        frame_shape=scan.frame_shape,
        dtype=scan.dtype,
        frames=count,
        wavelength_m=scan.wavelength_m,
        distance_m=scan.distance_m,
        detector_pixel_m=scan.detector_pixel_m,
        object_pixel_m=scan.object_pixel_m,
        saturation=scan.saturation,
        mask=scan.mask,
        positions_m=scan.positions_m[:count] if plan.positions == "start" else None,
    )


def _frame_messages(scan: ScanFile, plan: ReplayPlan, count: int, sender: Sender) -> Iterator[Outgoing]:
    for first, counts in _stacks(scan, count, plan.frames_per_message):
        told = scan.positions_m[first : first + len(counts)] if plan.positions == "frames" else None
        yield Outgoing(sender.frames(first, counts, told), frames=len(counts))


def _stacks(scan: ScanFile, count: int, per_message: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (number of its first frame, (n, H, W) frames) of each message; reads larger pieces."""
    frame_bytes = math.prod(scan.frame_shape) * scan.dtype.itemsize
    piece = max(1, _READ_BYTES // (frame_bytes * per_message)) * per_message
    for first in range(0, count, piece):
        frames = scan.frames(slice(first, min(first + piece, count)))
        for offset in range(0, len(frames), per_message):
            yield first + offset, frames[offset : offset + per_message]


def _position_messages(name: str, scan: ScanFile, count: int) -> Iterator[Outgoing]:
    for first in range(0, count, _POSITIONS_A_MESSAGE):
        positions_m = scan.positions_m[first : min(first + _POSITIONS_A_MESSAGE, count)]
        yield Outgoing(native.encode_positions(Positions(name, first, positions_m)), "positions")


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


@dataclass(frozen=True, slots=True)
class _Outlet:
    """A PUSH socket that says so when nobody takes its messages."""

    socket: zmq.Socket[bytes]
    endpoint: str
    stop: threading.Event
    stall_s: float

    def send(self, parts: list[bytes]) -> bool:
        """Send one message; return False when told to stop before it could go."""
        deadline = time.monotonic() + self.stall_s
        while not self.stop.is_set():
            try:
                self.socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                self._check_stall(deadline)
                self.socket.poll(_POLL_MS, zmq.POLLOUT)
            else:
                return True
        return False

    def _check_stall(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise StalledError(
                f"nobody took a message at {self.endpoint} for {self.stall_s:g} s: is the service running, "
                "and does it listen there?"
            )


@contextmanager
def _outlet(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    bind: bool,
    waiting: int,
    stop: threading.Event,
    stall_s: float,
) -> Iterator[_Outlet]:
    socket = context.socket(zmq.PUSH)
    socket.set(zmq.SNDHWM, waiting)
    socket.set(zmq.IMMEDIATE, 1)  # queue for a peer that is there, not for one that may never come
    linger_ms = _LINGER_STOPPED_MS
    try:
        yield _Outlet(socket, open_endpoint(socket, endpoint, bind=bind), stop, stall_s)
        linger_ms = _LINGER_STOPPED_MS if stop.is_set() else _LINGER_MS
    finally:
        socket.close(linger=linger_ms)


class _Schedule:
    """When the next frame is due: by the clock, so that a slow frame does not delay all that follow."""

    def __init__(self, rate_hz: float | None) -> None:
        self._period_s = 0.0 if rate_hz is None else 1 / rate_hz
        self._began_s = time.monotonic()
        self._frames = 0

    def wait(self, frames: int, stop: threading.Event) -> None:
        """Wait until `frames` more are due, or until told to stop."""
        ahead_s = self._began_s + self._frames * self._period_s - time.monotonic()
        self._frames += frames
        if self._period_s and ahead_s > 0:
            stop.wait(ahead_s)


def _send_rounds(
    scan: ScanFile,
    plan: ReplayPlan,
    lanes: dict[Lane, _Outlet],
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
