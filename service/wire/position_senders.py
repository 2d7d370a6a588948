"""What sends the positions of a scan in each format; `replay` owns the sockets and the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np

from service.messages import Float64, Positions, ScanEnd
from service.wire import native
from service.wire.panda import MARK

Y_FIELD: Final = "INENC1.VAL"
X_FIELD: Final = "INENC2.VAL"
FRAME_FIELD: Final = "COUNTER1.OUT"
FIRST_FRAME: Final = 1  # a PandA's counter has counted one when the first frame is triggered

_TRAVEL_M: Final = 2e-8  # of the stage during one frame, along x
_UNIT_M: Final = 1e-6
_UNIT: Final = "um"
_RECORD: Final = np.dtype([("frame", "<f8"), ("y", "<f8"), ("x", "<f8")])


@dataclass(frozen=True, slots=True)
class PositionsSending:
    """How the positions of one scan are sent.

    Attributes:
        scan: name of the scan.
        frames: how many it has.
        samples: encoder samples a frame, where the format has any.
        series: tells one capture from the next.
    """

    scan: str
    frames: int
    samples: int = 1
    series: int = 1


class PositionSender(Protocol):
    """Makes one scan's messages, each the parts of it."""

    def start(self) -> list[list[bytes]]:
        """Return the messages before the first position."""
        ...

    def positions(self, first: int, positions_m: Float64) -> list[bytes]:
        """Return the message of the positions (n, 2) from frame `first` on."""
        ...

    def end(self) -> list[bytes]:
        """Return the last message."""
        ...


class _NativeSender:
    """Native `positions` messages."""

    def __init__(self, sending: PositionsSending) -> None:
        self._sending = sending

    def start(self) -> list[list[bytes]]:
        return []

    def positions(self, first: int, positions_m: Float64) -> list[bytes]:
        return native.encode_positions(Positions(self._sending.scan, first, positions_m))

    def end(self) -> list[bytes]:
        return native.encode_end(ScanEnd(self._sending.scan, self._sending.frames))


class _PandaSender:
    """The data port of a PandA, after its `OK`: scaled values in frames."""

    def __init__(self, sending: PositionsSending) -> None:
        self._sending = sending
        self._sent = 0

    def start(self) -> list[list[bytes]]:
        capture = "Value" if self._sending.samples > 1 else "Mean"
        fields = ((FRAME_FIELD, "Value", ""), (Y_FIELD, capture, _UNIT), (X_FIELD, capture, _UNIT))
        lines = [
            f'<field name="{name}" type="double" capture="{kind}" scale="1" offset="0" units="{units}" />'
            for name, kind, units in fields
        ]
        told = f'missed="0" process="Scaled" format="Framed" sample_bytes="{_RECORD.itemsize}"'
        data = f'<data {told} arm_time="{_arm_time(self._sending)}" />'
        header = ["<header>", data, "<fields>", *lines, "</fields>", "</header>", "", ""]
        return [["\n".join(header).encode()]]

    def positions(self, first: int, positions_m: Float64) -> list[bytes]:
        counted, samples = _sampled(first, positions_m, self._sending.samples)
        self._sent += len(counted)
        records = np.empty(len(counted), _RECORD)
        records["frame"], records["y"], records["x"] = counted, samples[:, 0], samples[:, 1]
        return [MARK.pack(b"BIN ", MARK.size + records.nbytes), records.tobytes()]

    def end(self) -> list[bytes]:
        return [f"END {self._sent} Ok\n".encode()]


class _Nsls2Sender:
    """A PandA's captures in JSON."""

    def __init__(self, sending: PositionsSending) -> None:
        self._sending = sending
        self._packets = 0

    def start(self) -> list[list[bytes]]:
        return [[msgspec.json.encode({"msg_type": "start", "arm_time": _arm_time(self._sending)})]]

    def positions(self, first: int, positions_m: Float64) -> list[bytes]:
        counted, samples = _sampled(first, positions_m, self._sending.samples)
        told = {"dtype": "float64", "size": len(counted)}
        told["starting_sample_number"] = first * self._sending.samples
        columns = {FRAME_FIELD: counted, Y_FIELD: samples[:, 0], X_FIELD: samples[:, 1]}
        datasets = {f"/{name}.Value": {**told, "data": data.tolist()} for name, data in columns.items()}
        message = {"msg_type": "data", "frame_number": self._packets, "datasets": datasets}
        self._packets += 1
        return [msgspec.json.encode(message)]

    def end(self) -> list[bytes]:
        return [msgspec.json.encode({"msg_type": "stop", "emitted_frames": self._packets})]


POSITION_SENDERS: Final[dict[str, Callable[[PositionsSending], PositionSender]]] = {
    "native": _NativeSender,
    "panda": _PandaSender,
    "nsls2-json": _Nsls2Sender,
}


def _arm_time(sending: PositionsSending) -> str:
    """Return a time that no other series has: a replay does not read the clock for it."""
    return f"2026-01-01T00:00:00.{sending.series:09d}Z"


def _sampled(first: int, positions_m: Float64, samples: int) -> tuple[Float64, Float64]:
    """Return the counter (n · samples,) and y, x (n · samples, 2) in micrometres; the stage goes along x."""
    counted = np.repeat(np.arange(first, first + len(positions_m)) + FIRST_FRAME, samples)
    along_m = np.linspace(-_TRAVEL_M / 2, _TRAVEL_M / 2, samples) if samples > 1 else np.zeros(1)
    moved = np.repeat(positions_m, samples, axis=0)
    moved[:, 1] += np.tile(along_m, len(positions_m))
    return counted.astype(np.float64), moved / _UNIT_M
