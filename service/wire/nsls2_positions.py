"""Positions as JSON over ZMQ: a PandA's captures as its IOC publishes them at NSLS-II.

    {"msg_type": "start", "arm_time": "…", …}
    {"msg_type": "data", "frame_number": 0, "datasets": {"/INENC2.VAL.Value":
        {"dtype": "float64", "size": 41, "starting_sample_number": 0, "data": [ … ]}, …}}
    {"msg_type": "stop", "emitted_frames": 4}

What is called a frame there is a packet of samples. `starting_sample_number` says where a packet belongs,
though an earlier one was lost.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from service.errors import MessageError
from service.messages import Event, Float64, Notice, PositionsArmed
from service.wire.encoder_samples import EncoderFields, FrameAverager, Samples, named
from service.wire.fields import Parts
from service.wire.json_parts import decode_json
from service.wire.pixels import DEFAULT_LIMITS, Limits

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]

_MOST_PACKETS_COUNTED: Final = 1 << 20


class Start(msgspec.Struct, tag_field="msg_type", tag="start", frozen=True, kw_only=True):
    """A capture begins."""

    arm_time: str | None = None


class Data(msgspec.Struct, tag_field="msg_type", tag="data", frozen=True, kw_only=True):
    """A packet of samples; only the datasets that are wanted are read further."""

    frame_number: Count
    datasets: dict[str, msgspec.Raw]


class Stop(msgspec.Struct, tag_field="msg_type", tag="stop", frozen=True, kw_only=True):
    """A capture is over; so many packets were sent."""

    emitted_frames: Count | None = None


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """One field's samples."""

    size: Count
    starting_sample_number: Count
    data: list[float | None]
    dtype: Literal["float64", "float32", "int64", "int32", "uint64", "uint32", "uint16", "uint8"] = "float64"


class _Kind(msgspec.Struct, frozen=True):
    msg_type: Literal["start", "data", "stop"]


_KINDS: Final = msgspec.json.Decoder(_Kind)
_MESSAGES: Final = msgspec.json.Decoder(Start | Data | Stop)
_DATASETS: Final = msgspec.json.Decoder(Dataset)


def speaks_nsls2(parts: Parts) -> bool:
    """Tell whether a message is one of these."""
    if len(parts) != 1 or parts[0][:1] != b"{" or len(parts[0]) > DEFAULT_LIMITS.max_configuration_bytes:
        return False
    try:
        _KINDS.decode(parts[0])
    except (ValueError, RecursionError):
        return False
    return True


class Nsls2PositionsDecoder:
    """Messages in, positions out.

    Args:
        fields: which datasets are the positions; units must be told.
        limits: what the peer may make us take memory for.
    """

    def __init__(self, fields: EncoderFields, limits: Limits = DEFAULT_LIMITS) -> None:
        self._fields = fields
        self._limits = limits
        self._averager = FrameAverager(fields, limits.max_scan_frames)
        self._packets: set[int] = set()
        self._arm_time: str | None = None
        self._armed = False

    def decode(self, parts: Parts, received_ns: int) -> list[Event]:
        """Return the events of one message.

        Args:
            parts: the one ZMQ part.
            received_ns: not used; positions carry no time.

        Raises:
            MessageError: it does not follow the format.
        """
        if len(parts) != 1:
            raise MessageError(f"positions in JSON are one part a message, this one has {len(parts)}")
        message: Start | Data | Stop = decode_json(parts[0], _MESSAGES, self._limits.max_configuration_bytes)
        match message:
            case Start():
                return self._start(message)
            case Data():
                return self._data(message)
            case Stop():
                return self._stop(message)

    def _start(self, start: Start) -> list[Event]:
        if self._armed and start.arm_time is not None and start.arm_time == self._arm_time:
            return []  # told twice
        left = self._averager.flush()
        self._arm(start.arm_time)
        return [*left, PositionsArmed()]

    def _arm(self, arm_time: str | None) -> None:
        self._armed, self._arm_time = True, arm_time
        self._packets.clear()

    def _data(self, data: Data) -> list[Event]:
        samples = self._samples(data)
        begun = [] if self._armed else self._begun_unheard(samples.first)
        if len(self._packets) < _MOST_PACKETS_COUNTED:
            self._packets.add(data.frame_number)
        return [*begun, *self._averager.add(samples)]

    def _begun_unheard(self, first: int) -> list[Event]:
        """Return what is to be said where the start of a capture was not heard."""
        self._arm(None)
        if not first:
            return [PositionsArmed()]
        line = f"positions begin at sample {first}: did the service come when the PandA was already armed?"
        return [PositionsArmed(), Notice("positions_missed", line)]

    def _stop(self, stop: Stop) -> list[Event]:
        events: list[Event] = [*self._averager.flush()]
        sent, came = stop.emitted_frames, len(self._packets)
        if self._armed and sent is not None and came < min(sent, _MOST_PACKETS_COUNTED):
            line = f"{sent - came} of {sent} position packets did not come: is the network too slow for PUB?"
            events.append(Notice("position_packets", line))
        self._armed = False
        return events

    def _samples(self, data: Data) -> Samples:
        y, x, frame = named(self._fields, list(data.datasets))
        read = {name: self._dataset(name, data) for name in (y, x, frame) if name is not None}
        first, count = read[y].starting_sample_number, read[y].size
        if any((one.starting_sample_number, one.size) != (first, count) for one in read.values()):
            raise MessageError(f"{' and '.join(read)} do not hold the same samples")
        y_m = _column(read[y]) * _unit_m("y", self._fields.y_unit_m)
        x_m = _column(read[x]) * _unit_m("x", self._fields.x_unit_m)
        counted = None if frame is None else _column(read[frame])
        return Samples(first, np.stack([y_m, x_m], axis=1), counted)

    def _dataset(self, name: str, data: Data) -> Dataset:
        dataset = decode_json(bytes(data.datasets[name]), _DATASETS, self._limits.max_configuration_bytes)
        if dataset.size != len(dataset.data):
            raise MessageError(f"{name} holds {len(dataset.data)} samples, not the {dataset.size} it tells")
        return dataset


def _column(dataset: Dataset) -> Float64:
    return np.array(dataset.data, np.float64)  # None becomes not a number


def _unit_m(axis: str, told_m: float | None) -> float:
    if told_m is None:
        raise MessageError(f"positions in JSON tell no unit: set positions_{axis}_unit_m, metres a unit")
    return told_m
