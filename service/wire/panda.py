"""The data port of a PandA: a stream of bytes over TCP, in which captures come one after the other.

    we:    XML FRAMED SCALED
    PandA: OK
           <header> … </header>, an empty line
           BIN and the length of the block (u32, these 8 bytes included), packed records; again and again
           END, the number of samples, and the reason

PandABlocks-server, docs/capture.rst. Lengths are compared before bytes are kept for them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from service.errors import MessageError
from service.messages import Event, Notice, PositionsArmed
from service.wire.encoder_samples import EncoderFields, FrameAverager, Samples
from service.wire.fields import short
from service.wire.panda_header import Columns, Header, columns, parse_header
from service.wire.pixels import DEFAULT_LIMITS, Limits

REQUEST: Final = b"XML FRAMED SCALED\n"
PORT: Final = 8889  # 8888 takes commands
FIELDS: Final = "panda_fields"  # what a notice of fields that are not captured is about
MARK: Final = struct.Struct("<4sI")

_LONGEST_LINE: Final = 4096
_LONGEST_HEADER: Final = 1 << 17
_LARGEST_BLOCK: Final = 1 << 22  # the server cuts its blocks at 64 KiB
_END: Final = re.compile(rb"END (\d{1,16}) ([ -~]{1,64})")
_ADVICE: Final = {
    "Data overrun": "it could not send as fast as it captured: is the network or this machine too slow?",
    "Framing error": "triggers came faster than the fields can be captured",
    "Early disconnect": "it lost a client",
}


@dataclass(slots=True, eq=False)
class _Capture:
    """One capture, from its header to its end.

    Attributes:
        header: what was told of it.
        record: type of its packed records.
        wanted: the fields to take; None where they are not captured.
        samples: how many samples there are so far, those that were missed included.
        rest: the beginning of a record whose end has not come yet.
    """

    header: Header
    record: np.dtype[np.void]
    wanted: Columns | None
    samples: int
    rest: bytes = b""


class PandaDecoder:
    """Bytes in, positions out; owns no socket.

    Args:
        fields: which captured fields are the positions.
        limits: what the peer may make us take memory for.
    """

    def __init__(self, fields: EncoderFields, limits: Limits = DEFAULT_LIMITS) -> None:
        self._averager = FrameAverager(fields, limits.max_scan_frames)
        self._fields = fields
        self._buffer = bytearray()
        self._step: Callable[[], list[Event] | None] = self._status
        self._capture: _Capture | None = None
        self._cut_off: _Capture | None = None  # by a lost connection

    def hello(self) -> bytes:
        """Return what to send first over a new connection."""
        self._buffer.clear()
        self._step = self._status
        return REQUEST

    def feed(self, received: bytes) -> list[Event]:
        """Return the events of the bytes that came.

        Raises:
            MessageError: they do not follow the protocol; the connection is of no use any more.
        """
        self._buffer += received
        events: list[Event] = []
        while (told := self._step()) is not None:
            events += told
        return events

    def lost(self) -> list[Event]:
        """Return what is to be said and placed when the connection has gone."""
        capture, self._capture = self._capture, None
        if capture is None:
            return []
        self._cut_off = capture
        line = f"the connection to the PandA broke in mid-capture, after sample {capture.samples}"
        return [*self._averager.flush(), Notice("panda_connection", line)]

    def _status(self) -> list[Event] | None:
        line = self._line(_LONGEST_LINE)
        if line is None:
            return None
        if line != b"OK":
            raise MessageError(
                f"not the data port of a PandA ({PORT}): it says {short(line.decode('latin1'))}"
            )
        self._step = self._header
        return []

    def _header(self) -> list[Event] | None:
        end = self._buffer.find(b"</header>\n")
        if max(end, 0 if end >= 0 else len(self._buffer)) > _LONGEST_HEADER:
            raise MessageError("the PandA's header has no end")
        if end < 0:
            return None
        begin = max(0, self._buffer.find(b"<header>"))
        text = self._take(end + len(b"</header>\n"))
        self._step = self._blank
        return self._begin(parse_header(text[begin:]))

    def _blank(self) -> list[Event] | None:
        if not self._buffer:
            return None
        if self._take(1) != b"\n":
            raise MessageError("no empty line after the PandA's header")
        self._step = self._block
        return []

    def _block(self) -> list[Event] | None:
        if len(self._buffer) < MARK.size:
            return None
        mark, length = MARK.unpack_from(self._buffer)
        if mark == b"END ":
            return self._end()
        if mark != b"BIN " or not MARK.size <= length <= _LARGEST_BLOCK:
            raise MessageError(
                f"neither samples nor an end from the PandA: {short(mark.decode('latin1'))}, {length}"
            )
        return None if len(self._buffer) < length else self._samples(self._take(length)[MARK.size :])

    def _end(self) -> list[Event] | None:
        line = self._line(_LONGEST_LINE)
        if line is None:
            return None
        told = _END.fullmatch(line)
        if told is None:
            raise MessageError(
                f"an end that is not understood from the PandA: {short(line.decode('latin1'))}"
            )
        self._step = self._header
        events: list[Event] = [*self._averager.flush(), *self._judged(int(told[1]), told[2].decode())]
        self._capture = None
        return events

    def _begin(self, header: Header) -> list[Event]:
        cut_off, self._cut_off = self._cut_off, None
        self._capture = _Capture(header, header.record, None, header.missed)
        resumed = cut_off is not None and _same(cut_off, header)
        events: list[Event] = [] if resumed else [PositionsArmed()]
        if header.missed:
            events.append(Notice("panda_missed", self._missed_in_words(header.missed, resumed)))
        try:
            self._capture.wanted = columns(header, self._fields)
        except MessageError as error:
            events.append(Notice(FIELDS, str(error)))
        return events

    def _samples(self, block: bytes) -> list[Event]:
        """Return the positions of the records in a block; they need not end where it does."""
        capture = self._running()
        size = capture.record.itemsize
        whole = capture.rest + block
        count = len(whole) // size
        capture.rest = whole[count * size :]
        first, capture.samples = capture.samples, capture.samples + count
        if capture.wanted is None or not count:
            return []
        records = np.frombuffer(whole, capture.record, count)
        return list(self._averager.add(_samples(records, capture.wanted, first)))

    def _judged(self, sent: int, reason: str) -> list[Event]:
        """Return what is to be said of an end."""
        capture, events = self._running(), list[Event]()
        came, missed = capture.samples - capture.header.missed, capture.header.missed
        if sent not in (came, came + missed):
            events.append(Notice("panda_samples", f"the PandA sent {sent} samples, and {came} came"))
        if reason != "Ok":
            advice = _ADVICE.get(reason, "was the scan aborted?")
            events.append(
                Notice("panda_end", f"the PandA ended after {sent} samples with {reason!r}: {advice}")
            )
        return events

    def _running(self) -> _Capture:
        if self._capture is None:
            raise MessageError("samples from the PandA before their header")
        return self._capture

    def _missed_in_words(self, missed: int, resumed: bool) -> str:
        frame = self._averager.frame_of(missed)
        place = f"sample {missed}" + ("" if frame is None else f", of frame {frame}")
        if resumed:
            return f"the PandA is connected again: positions go on from {place}"
        return f"positions begin at {place}: was the PandA armed before the service came?"

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _line(self, longest: int) -> bytes | None:
        end = self._buffer.find(b"\n", 0, longest)
        if end < 0 and len(self._buffer) >= longest:
            raise MessageError("a line without an end: is this the data port of a PandA?")
        return None if end < 0 else self._take(end + 1)[:-1]


def _same(cut_off: _Capture, header: Header) -> bool:
    """Whether a capture is the one that a lost connection cut off: then it goes on after what was missed."""
    return header.missed >= max(1, cut_off.samples) and header.arm_time == cut_off.header.arm_time


def _samples(records: np.ndarray[tuple[int], np.dtype[np.void]], wanted: Columns, first: int) -> Samples:
    y_m = records[wanted.y].astype(np.float64) * wanted.y_unit_m
    x_m = records[wanted.x].astype(np.float64) * wanted.x_unit_m
    counted = None if wanted.frame is None else records[wanted.frame].astype(np.float64)
    return Samples(first, np.stack([y_m, x_m], axis=1), counted)
