"""Encoder samples → the positions of frames.

An encoder is sampled once a frame, or several times; then the mean over the exposure is the frame's position.
Which frame a sample belongs to is told by its number (so many samples a frame), or by a captured field that
counts frames, as a PandA's COUNTER block does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import MessageError
from service.messages import Float64, Positions

_MOST_OPEN: Final = 1024
_LARGEST: Final = 1e30  # beyond it a sum of samples may overflow; no encoder means it


@dataclass(frozen=True, slots=True)
class EncoderFields:
    """Which of the captured fields mean what.

    Attributes:
        y, x: names, as `INENC1.VAL.Mean`, or without the capture, as `INENC1.VAL`; None: not told.
        y_unit_m, x_unit_m: metres a unit of the field, negative where it counts the other way; None: as the
            stream tells its unit.
        frame: field that counts the frames; None: the samples are counted.
        first_frame: what that field says at the first frame.
        samples: samples a frame, where no field counts the frames.
    """

    y: str | None = None
    x: str | None = None
    y_unit_m: float | None = None
    x_unit_m: float | None = None
    frame: str | None = None
    first_frame: int = 0
    samples: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Consecutive samples of the encoders.

    Attributes:
        first: number of the first of them, counted from 0 since the source was armed.
        positions_m: (n, 2) float64 y, x in metres; what is not finite was not measured.
        counted: (n,) float64 what the field that counts frames said; None where there is none.
    """

    first: int
    positions_m: Float64
    counted: Float64 | None = None


class FrameAverager:
    """Means of the samples of each frame, whatever the packets they come in.

    A frame whose samples come in two packets waits for the second. One of which a sample was lost gets the
    mean of the others as soon as the packets are in order again. Packets may come twice.

    Args:
        fields: how samples belong to frames.
        max_frames: frame numbers lie below this; samples of others are left out.
    """

    def __init__(self, fields: EncoderFields, max_frames: int) -> None:
        self._fields = fields
        self._max_frames = max_frames
        self._open: dict[int, dict[int, Float64]] = {}  # frame → sample → y, x
        self._next: int | None = None  # number of the sample after the last

    def add(self, samples: Samples) -> list[Positions]:
        """Return the positions that are known by these samples."""
        in_order = self._next in (None, samples.first)
        self._next = max(self._next or 0, samples.first + len(samples.positions_m))
        frames, numbers, positions_m = self._usable(samples)
        if not len(frames):
            return []
        starts = np.flatnonzero(np.diff(frames, prepend=frames[0] - 1))
        sizes = np.diff(starts, append=len(frames))
        whole = self._whole(sizes)
        means_m = np.add.reduceat(positions_m, starts) / sizes[:, None]
        known = _consecutive(frames[starts][whole], means_m[whole])
        for group in np.flatnonzero(~whole):
            part = slice(starts[group], starts[group] + sizes[group])
            known += self._keep(int(frames[starts[group]]), numbers[part], positions_m[part])
        return known + self._closed(int(frames[-1]), in_order)

    def flush(self) -> list[Positions]:
        """Return the means of the frames that wait for more samples: none will come."""
        waiting, self._open = self._open, {}
        self._next = None
        return [_mean(frame, samples) for frame, samples in waiting.items()]

    def frame_of(self, sample: int) -> int | None:
        """Return the frame of a sample; None where only a field could tell."""
        return None if self._fields.frame is not None else sample // self._fields.samples

    def _usable(self, samples: Samples) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
        """Return frame numbers, sample numbers and positions of the samples that can be used."""
        numbers = samples.first + np.arange(len(samples.positions_m), dtype=np.int64)
        frames = self._frames(numbers, samples.counted)
        usable = (frames >= 0) & (np.abs(samples.positions_m) < _LARGEST).all(axis=1)
        return frames[usable], numbers[usable], samples.positions_m[usable]

    def _frames(self, numbers: NDArray[np.int64], counted: Float64 | None) -> NDArray[np.int64]:
        """Return the frame number of each sample, -1 where it has none."""
        if counted is None:
            told: Float64 = (numbers // self._fields.samples).astype(np.float64)
        else:
            told = np.rint(counted - self._fields.first_frame)
        possible = (told >= 0) & (told < self._max_frames)
        return np.where(possible, told, -1).astype(np.int64)

    def _whole(self, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the groups of samples are all that there is of their frame."""
        if self._fields.frame is None:
            return np.equal(sizes, self._fields.samples)
        inner = np.ones(len(sizes), np.bool_)
        inner[[0, -1]] = False
        return inner

    def _keep(self, frame: int, numbers: NDArray[np.int64], positions_m: Float64) -> list[Positions]:
        """Let samples wait for the others of their frame; return its position where they are all there."""
        waiting = self._open.setdefault(frame, {})
        waiting.update(zip(numbers.tolist(), positions_m, strict=True))
        full = self._fields.frame is None and len(waiting) == self._fields.samples
        return [_mean(frame, self._open.pop(frame))] if full else []

    def _closed(self, last: int, in_order: bool) -> list[Positions]:
        """Take out the frames of which no more is to come; `last` is the frame of the newest sample."""
        done = [frame for frame in self._open if frame != last] if in_order else []
        done += list(self._open)[: max(0, len(self._open) - len(done) - _MOST_OPEN)]
        return [_mean(frame, self._open.pop(frame)) for frame in done]


def matching(name: str, captured: list[str]) -> str | None:
    """Return the one of the captured fields that a name means; None where none does.

    Without the capture at its end a name means the field's mean, else its value, else what there is of it.
    """
    name = name.removeprefix("/")
    plain = {field.removeprefix("/"): field for field in captured}
    if name in plain:
        return plain[name]
    kinds = [f"{name}.Mean", f"{name}.Value", *(field for field in plain if field.rpartition(".")[0] == name)]
    return next((plain[kind] for kind in kinds if kind in plain), None)


def named(fields: EncoderFields, captured: list[str]) -> tuple[str, str, str | None]:
    """Return the captured fields that are y, x and, where it is told, the number of the frame.

    Raises:
        MessageError: one is not told, or not captured; the message lists those that are.
    """
    found: list[str | None] = []
    for setting, name in (("y", fields.y), ("x", fields.x), ("frame", fields.frame)):
        if name is None and setting == "frame":
            found.append(None)
            continue
        field = None if name is None else matching(name, captured)
        if field is None:
            wrong = "is not told" if name is None else f"= {name} is not captured"
            raise MessageError(f"positions_{setting} {wrong}; the fields are {', '.join(captured[:16])}")
        found.append(field)
    return str(found[0]), str(found[1]), found[2]


def _consecutive(frames: NDArray[np.int64], means_m: Float64) -> list[Positions]:
    """Return the positions of frames, one message for each run of consecutive numbers."""
    if not len(frames):
        return []
    cuts = np.flatnonzero(np.diff(frames) != 1) + 1
    firsts = frames[np.concatenate([[0], cuts])]
    return [
        Positions("", int(first), rows) for first, rows in zip(firsts, np.split(means_m, cuts), strict=True)
    ]


def _mean(frame: int, samples: dict[int, Float64]) -> Positions:
    return Positions("", frame, np.mean(list(samples.values()), axis=0, keepdims=True))
