"""What a detector of each format sends of one scan; `replay` owns the sockets and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Protocol

from numpy.typing import NDArray

from service.errors import ConfigError
from service.messages import Float64, ScanEnd, ScanStart
from service.wire import dectris_v1, dectris_v2, native
from service.wire.array_1 import Array1Encoder

Encoding = Literal["raw", "lz4", "bslz4"]


@dataclass(frozen=True, slots=True)
class Sending:
    """How one scan is sent.

    Attributes:
        start: the scan.
        encoding: of the pixels.
        series: the device's number of the scan, where the format numbers them.
        armed: when the detector was armed.
        frame_time_s: from one frame to the next.
    """

    start: ScanStart
    encoding: Encoding
    series: int
    armed: datetime
    frame_time_s: float


class Sender(Protocol):
    """Makes one scan's messages in one format.

    Attributes:
        whole_stacks: whether a message may carry several frames, and their positions.
    """

    whole_stacks: ClassVar[bool]

    def __init__(self, sending: Sending) -> None: ...

    def start(self) -> list[bytes]:
        """Return the parts of the first message."""
        ...

    def frames(self, first: int, counts: NDArray[Any], positions_m: Float64 | None) -> list[bytes]:
        """Return the parts of the message of the frames (n, H, W) from `first` on, with their positions."""
        ...

    def end(self) -> list[bytes]:
        """Return the parts of the last message."""
        ...


class _NativeSender:
    """The native stream."""

    whole_stacks: ClassVar[bool] = True

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def start(self) -> list[bytes]:
        return native.encode_start(self._sending.start)

    def frames(self, first: int, counts: NDArray[Any], positions_m: Float64 | None) -> list[bytes]:
        told = self._sending
        return native.encode_frames(told.start.scan, first, counts, told.encoding, positions_m)

    def end(self) -> list[bytes]:
        start = self._sending.start
        return native.encode_end(ScanEnd(start.scan, start.frames))


class _DectrisV1Sender:
    """DECTRIS Stream V1."""

    whole_stacks: ClassVar[bool] = False

    def __init__(self, sending: Sending) -> None:
        _check_unsigned(sending.start, "dectris-v1")
        self._encoding = sending.encoding
        self._series = dectris_v1.SentSeries(sending.start, sending.series, sending.frame_time_s)

    def start(self) -> list[bytes]:
        return dectris_v1.encode_header(self._series)

    def frames(self, first: int, counts: NDArray[Any], _positions_m: Float64 | None) -> list[bytes]:
        return dectris_v1.encode_image(self._series, first, counts[0], self._encoding)

    def end(self) -> list[bytes]:
        return dectris_v1.encode_end(self._series)


class _DectrisV2Sender:
    """DECTRIS Stream V2."""

    whole_stacks: ClassVar[bool] = False

    def __init__(self, sending: Sending) -> None:
        _check_unsigned(sending.start, "dectris-v2")
        self._encoding = sending.encoding
        self._series = dectris_v2.SentSeries(
            sending.start, sending.series, armed=sending.armed, frame_time_s=sending.frame_time_s
        )

    def start(self) -> list[bytes]:
        return dectris_v2.encode_start(self._series)

    def frames(self, first: int, counts: NDArray[Any], _positions_m: Float64 | None) -> list[bytes]:
        return dectris_v2.encode_image(self._series, first, counts[0], self._encoding)

    def end(self) -> list[bytes]:
        return dectris_v2.encode_end(self._series)


class _Array1Sender:
    """array-1.0 images between MAX IV's header and end."""

    whole_stacks: ClassVar[bool] = False

    def __init__(self, sending: Sending) -> None:
        self._encoding = sending.encoding
        self._encoder = Array1Encoder(sending.start)

    def start(self) -> list[bytes]:
        return self._encoder.header()

    def frames(self, first: int, counts: NDArray[Any], _positions_m: Float64 | None) -> list[bytes]:
        return self._encoder.image(first, counts[0], self._encoding)

    def end(self) -> list[bytes]:
        return self._encoder.end()


SENDERS: Final[dict[str, type[Sender]]] = {
    "native": _NativeSender,
    "dectris-v1": _DectrisV1Sender,
    "dectris-v2": _DectrisV2Sender,
    "array-1.0": _Array1Sender,
}


def _check_unsigned(start: ScanStart, stream_format: str) -> None:
    if start.dtype.kind != "u":
        raise ConfigError(f"{stream_format} carries unsigned integers, not {start.dtype}: send it as native")
