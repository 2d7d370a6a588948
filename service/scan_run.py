"""One scan while it runs: its geometry, ledger, mosaic, and what the operator should know of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import BundleDescription
from model.geometry import object_pixel_m
from service.alarm import Alarm
from service.batch import Batcher
from service.join import Joiner
from service.ledger import Ledger, LedgerState
from service.messages import Float64, ScanStart, Tiles
from service.mosaic import Mosaic, MosaicState

_RATE_WINDOW_NS = 2_000_000_000
_LATENCIES_KEPT = 1 << 14
_PIXEL_TOLERANCE = 0.01
_FRAMES_LOOKED_AT = 512  # for gaps, while the scan runs
_LOOK_EVERY_S = 1.0


class Rates:
    """Frames a second, and seconds from the socket to the mosaic."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int]] = deque()
        self._latencies_s = np.zeros(_LATENCIES_KEPT, np.float32)  # a ring
        self._first_ns: int | None = None
        self._last_ns = 0
        self._frames = 0

    def add(self, received_ns: NDArray[np.int64], now_ns: int) -> None:
        """Note that frames received at those times are in the mosaic now."""
        if self._first_ns is None:
            self._first_ns = int(received_ns.min())
        self._last_ns = now_ns
        places = np.arange(self._frames, self._frames + len(received_ns)) % _LATENCIES_KEPT
        self._latencies_s[places] = (now_ns - received_ns) * 1e-9
        self._frames += len(received_ns)
        self._recent.append((now_ns, len(received_ns)))
        while now_ns - self._recent[0][0] > _RATE_WINDOW_NS:
            self._recent.popleft()

    def now_hz(self, now_ns: int) -> float:
        """Return frames a second over the last two seconds."""
        frames = sum(n for at_ns, n in tuple(self._recent) if now_ns - at_ns <= _RATE_WINDOW_NS)
        begun_ns = self._first_ns if self._first_ns is not None else now_ns
        span_ns = min(_RATE_WINDOW_NS, max(now_ns - begun_ns, 1_000_000))
        return frames / (span_ns * 1e-9)

    def mean_hz(self) -> float | None:
        """Return frames a second from the first arrival to the last stitch, None before the first."""
        if self._first_ns is None or self._last_ns <= self._first_ns:
            return None
        return self._frames / ((self._last_ns - self._first_ns) * 1e-9)

    def latency_s(self, percentile: float) -> float | None:
        """Return a percentile of the last frames' seconds from socket to mosaic, None before the first."""
        latencies_s = self._latencies_s[: self._frames]
        return float(np.percentile(latencies_s, percentile)) if self._frames else None


@dataclass(frozen=True, slots=True)
class Resumption:
    """A service went down in the middle of the scan, and the next one went on with it.

    Attributes:
        at_ns: when it went on, wall clock.
        kept: frames whose end was known from the snapshot.
        recorded: frames that were taken from the recording instead.
        lost: frames that had been received and are in neither.
    """

    at_ns: int
    kept: int
    recorded: int
    lost: int

    def report(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "at": iso(self.at_ns), "kept": self.kept, "recorded": self.recorded, "lost": self.lost,
        }  # fmt: skip

    def in_words(self) -> str:
        """Return one line for the operator."""
        return (
            f"the service went down in the middle of the scan and went on at {iso(self.at_ns)}: {self.kept} "
            f"frames from its snapshot, {self.recorded} from the recording, {self.lost} lost with it"
        )


@dataclass(frozen=True, slots=True, eq=False)
class RunState:
    """What is kept of a running scan, so that another process can go on with it.

    Attributes:
        started_ns: wall clock.
        end_told: the source has said that the scan is over.
        warnings: lines by what they are about.
        resumptions: that there were so far.
        ledger, mosaic: of the frames that have ended.
        positions_m: (n, 2) positions y, x of frame 0, 1, … known so far, NaN where none is.
    """

    started_ns: int
    end_told: bool
    warnings: dict[str, str]
    resumptions: tuple[Resumption, ...]
    ledger: LedgerState
    mosaic: MosaicState
    positions_m: Float64


class _Placed(NamedTuple):
    """Frames that are in the mosaic: their numbers (n,), and (n, 2) probe centres y, x in metres."""

    indices: NDArray[np.int64]
    positions_m: Float64


def _joined(pieces: Sequence[_Placed]) -> _Placed:
    numbers, centres_m = zip(*pieces, strict=True)
    return _Placed(np.concatenate(numbers), np.concatenate(centres_m))


@dataclass(slots=True, eq=False)
class ScanRun:
    """The state of one scan.

    Attributes:
        start: what was told of it.
        object_pixel_m: pixel of its mosaic, metres.
        model: name of the bundle that paints it.
        ledger, joiner, batcher, mosaic, alarm, rates: its parts.
        warnings: what the operator should check, a line each, by what it is about.
        started_ns, finished_ns: wall clock.
        last_arrival_s: when the last frame came, on the journey's clock.
        aligned: each tile is turned to fit those before it.
        end_told: the source has said that the scan is over.
        residual: forward residual of the last frames where it was taken, None before.
        resumptions: a line each time that another service went on with the scan.
        forsaken: it was resumed, and no frame has come since.
    """

    start: ScanStart
    object_pixel_m: float
    model: str
    ledger: Ledger
    joiner: Joiner
    batcher: Batcher
    mosaic: Mosaic
    alarm: Alarm
    started_ns: int
    last_arrival_s: float
    aligned: bool = False
    rates: Rates = field(default_factory=Rates)
    warnings: dict[str, str] = field(default_factory=dict)
    finished_ns: int | None = None
    end_told: bool = False
    residual: float | None = None
    resumptions: tuple[Resumption, ...] = ()
    forsaken: bool = False
    _looked_s: float = 0.0
    _placed: tuple[_Placed, ...] = ()

    @property
    def scan(self) -> str:
        """Its name."""
        return self.start.scan

    def warn(self, about: str, line: str) -> None:
        """Note a line for the operator; the first one about a matter stays, so that there are only a few."""
        self.warnings.setdefault(about, line)

    def note_placed(self, tiles: Tiles, now_ns: int) -> None:
        """Remember where tiles were put, and how fast."""
        if len(tiles.indices):
            self.rates.add(tiles.received_ns, now_ns)
            self._remember(_Placed(tiles.indices, tiles.positions_m))

    def watch(self, now_s: float) -> None:
        """Look about once a second whether frames are missing at regular gaps, on the journey's clock."""
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            self.look_for_stolen_frames(_FRAMES_LOOKED_AT)

    def look_for_stolen_frames(self, newest: int | None = None) -> None:
        """Tell the operator where frames are missing at regular gaps, among the newest or, with None, all.

        A detector that pushes deals its frames out in turn to all who pull from it.
        """
        stride = self.ledger.stride(newest)
        if stride > 1:
            often = "every 2nd frame is" if stride == 2 else f"{stride - 1} of every {stride} frames are"
            self.warn("stride", f"{often} missing: is another client connected to the detector?")

    def state(self, since: int = -1) -> RunState:
        """Return what is to be kept, with the mosaic's blocks that changed after its version `since`.

        Called by the thread that reconstructs, between two events: then its parts belong together.
        """
        return RunState(
            self.started_ns, self.end_told, dict(self.warnings), self.resumptions,
            self.ledger.state(), self.mosaic.state(since), self.joiner.positions_m(),
        )  # fmt: skip

    def restore(self, state: RunState) -> None:
        """Go on from what was kept; only of a scan of which nothing has come so far.

        Raises:
            ValueError: its parts contradict each other, or are of a mosaic of another size.
        """
        stitched = state.ledger.stitched
        if len(stitched) and (stitched[-1] >= len(state.positions_m) or state.mosaic.bounds is None):
            raise ValueError("frames were stitched that have no position, or left no trace in the mosaic")
        ledger = Ledger.restored(state.ledger)
        self.mosaic.restore(state.mosaic)
        self.ledger = ledger
        self.started_ns, self.end_told = state.started_ns, state.end_told
        self.warnings = {**state.warnings, **self.warnings}
        self.resumptions = state.resumptions
        if len(stitched):
            self._remember(_Placed(stitched, state.positions_m[stitched]))

    def resumed(self, how: Resumption) -> None:
        """Take note that another service went on with the scan."""
        self.resumptions += (how,)
        self.warnings["resumed"] = how.in_words()

    def placed(self) -> tuple[NDArray[np.int64], Float64]:
        """Return frame numbers (n,) and probe centres (n, 2) y, x in metres, in the order of the numbers."""
        pieces = self._placed
        if not pieces:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        indices, positions_m = _joined(pieces)
        order = np.argsort(indices)
        return indices[order], positions_m[order]

    def _remember(self, piece: _Placed) -> None:
        """Keep pieces each longer than the one after: many small batches take no more than a few large ones.

        Other threads ask for them meanwhile, so they are replaced at once.
        """
        pieces = list(self._placed)
        while pieces and len(pieces[-1].indices) <= len(piece.indices):
            piece = _joined((pieces.pop(), piece))
        self._placed = (*pieces, piece)

    def complete(self) -> bool:
        """Whether every expected frame has been stitched or dropped."""
        counts = self.ledger.counts()
        return (
            counts.expected is not None and counts.stitched + sum(counts.dropped.values()) >= counts.expected
        )

    def summary(self) -> dict[str, Any]:
        """Return what a list of scans says of it: plain values."""
        return {
            "scan": self.scan,
            "started": iso(self.started_ns),
            "finished": iso(self.finished_ns),
            "ledger": self.ledger.counts().as_dict(),
        }

    def report(self, now_ns: int) -> dict[str, Any]:
        """Return what API, page and result file say of the scan: plain values."""
        counts = self.ledger.counts()
        finished = self.finished_ns is not None
        return {
            **self.summary(),
            "geometry": self._geometry(),
            "ledger_words": counts.in_words(),
            "rates": {
                "frames_per_s": self.rates.mean_hz() if finished else self.rates.now_hz(now_ns),
                "mean_frames_per_s": self.rates.mean_hz(),
                "latency_p50_s": self.rates.latency_s(50),
                "latency_p99_s": self.rates.latency_s(99),
            },
            "agreement": self.mosaic.agreement_mean(),
            "confidence": self.mosaic.confidence_mean(),
            "forward_residual": self.residual,
            "trust": self.alarm.report(),
            "model": self.model,
            "gauge_alignment": self.aligned,
            "resumed": [resumption.report() for resumption in self.resumptions],
            "warnings": list(self.warnings.values()),
        }

    def _geometry(self) -> dict[str, Any]:
        start = self.start
        return {
            "frame_shape": list(start.frame_shape),
            "dtype": np.dtype(start.dtype).str,
            "wavelength_m": start.wavelength_m,
            "distance_m": start.distance_m,
            "detector_pixel_m": start.detector_pixel_m,
            "object_pixel_m": self.object_pixel_m,
            "origin_m": list(self.mosaic.origin_m),
            "framing": None if start.framing is None else start.framing.report(),
        }


def iso(time_ns: int | None) -> str | None:
    """Return a wall-clock time as ISO 8601 text in UTC."""
    return (
        None
        if time_ns is None
        else datetime.fromtimestamp(time_ns * 1e-9, UTC).isoformat(timespec="milliseconds")
    )


def scan_pixel_m(start: ScanStart, model: BundleDescription) -> tuple[float, str | None]:
    """Return the object's pixel of a scan, metres, and a warning where it is not the model's.

    What the scan says wins: positions are in metres, and a wrong pixel shears the mosaic apart.
    """
    told = start.object_pixel_m or _far_field_pixel_m(start)
    if told is None or not 0 < told < math.inf:  # numbers that are absurd together tell as little as none
        return model.object_pixel_m, (
            f"the stream tells no geometry: the model's object pixel, {_nm(model.object_pixel_m)}, is used"
        )
    return told, pixel_warning(told, model)


def pixel_warning(object_pixel_m: float, model: BundleDescription) -> str | None:
    """Return a line for the operator where the object's pixel, metres, is not the model's; else None."""
    if abs(object_pixel_m / model.object_pixel_m - 1) <= _PIXEL_TOLERANCE:
        return None
    return (
        f"object pixel {_nm(object_pixel_m)}, the model was trained at {_nm(model.object_pixel_m)}: "
        "check energy, distance and detector pixel, or the bundle"
    )


def _nm(length_m: float) -> str:
    return f"{length_m * 1e9:.2f} nm"


def _far_field_pixel_m(start: ScanStart) -> float | None:
    if not (start.wavelength_m and start.distance_m and start.detector_pixel_m):
        return None
    return object_pixel_m(start.wavelength_m, start.distance_m, start.detector_pixel_m, start.frame_shape[1])
