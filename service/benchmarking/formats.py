"""How fast each stream format is received, decoded and joined on one core, beside the bare decompressor.

The bare decompressor is `recv_multipart` of the very messages that the detector sends, and the decompressor
on those of their bytes that are pixels, whose place it is told; it reads, checks, keeps and joins nothing.
The service does all of that. Seconds are those that the receiving thread ran, so that neither a sender nor
whatever else the machine does takes part in them. The two take turns, and the ratio is told as the median
over the rounds. Raw pixels need no decompressor: they are compared with the receiving alone, which copies
them, as the service does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import lz4.block
import numpy as np
import zmq
from numpy.typing import NDArray

from service.benchmarking.messages import SCAN, stream_messages
from service.benchmarking.timing import Say
from service.errors import ConfigError, StreamError
from service.join import Joiner
from service.loopback import FREE
from service.messages import Blob, Image, Positions
from service.sources import Source, decoder_for
from service.wire.pixels import DEFAULT_LIMITS, compiled_decompress, encode_pixels
from service.wire.senders import Encoding

SIDES_PX: Final = (128, 512)
CASES: Final[tuple[tuple[str, Encoding, int], ...]] = (  # format, encoding, frames a message
    ("native", "raw", 1),
    ("native", "lz4", 1),
    ("native", "bslz4", 1),
    ("native", "bslz4", 16),
    ("dectris-v1", "lz4", 1),
    ("dectris-v1", "bslz4", 1),
    ("dectris-v2", "lz4", 1),
    ("dectris-v2", "bslz4", 1),
    ("array-1.0", "raw", 1),
    ("array-1.0", "bslz4", 1),
)

_BYTES_A_ROUND: Final = 1 << 23
_MOST_FRAMES: Final = 256
_MEAN_COUNTS: Final = 2.0
_PATIENCE_S: Final = 10.0
_PILE: Final = 64  # messages, as many as a socket holds
_SETTLE_S: Final = 0.02

Parts = list[bytes]
Unpack = Callable[[Blob], object]
_Place = tuple[int, slice]


@dataclass(frozen=True, slots=True)
class Rates:
    """Frames a second of one format.

    Attributes:
        bare_hz: received and unpacked, nothing else.
        whole_hz: received, decoded and joined with their positions.
        ratio: of the second to the first, median over the rounds.
    """

    bare_hz: float
    whole_hz: float
    ratio: float


def format_rates(rounds: int, say: Say, sides_px: tuple[int, ...] = SIDES_PX) -> dict[str, Rates]:
    """Measure all formats, telling each as it comes.

    Args:
        rounds: times each rate is taken.
        say: takes a line.
        sides_px: sides of the square uint16 frames.
    """
    say(f"{'one core, frames/s':<36}{'bare':>13}{'in, joined':>13}{'ratio':>8}")
    measured = {}
    for side_px in sides_px:
        counts = _counts(side_px)
        for stream_format, encoding, stack in CASES:
            name = f"{stream_format} {encoding} {side_px}²" + (f", {stack} a message" if stack > 1 else "")
            rates = measured[name] = _rates(stream_format, encoding, stack, counts, rounds)
            say(f"{name:<36}{rates.bare_hz:>13.0f}{rates.whole_hz:>13.0f}{rates.ratio:>8.2f}")
    return measured


def _counts(side_px: int) -> NDArray[np.uint16]:
    """Return (n, side, side) photons as a detector counts them, a round's worth."""
    frames = min(max(8, _BYTES_A_ROUND // (2 * side_px**2)), _MOST_FRAMES)
    few = np.random.default_rng(1).poisson(_MEAN_COUNTS, (8, side_px, side_px)).astype("<u2")
    return np.resize(few, (frames, side_px, side_px))


def _rates(
    stream_format: str, encoding: Encoding, stack: int, counts: NDArray[np.uint16], rounds: int
) -> Rates:
    start, *messages = stream_messages(stream_format, encoding, counts, stack)
    places, unpack = _bare(stream_format, encoding, counts, stack, messages)
    bare, whole = [], []
    for _ in range(rounds):
        bare.append(len(counts) / _bare_s(messages, places, unpack))
        whole.append(len(counts) / _whole_s(stream_format, len(counts), start, messages))
    ratio = statistics.median(w / b for w, b in zip(whole, bare, strict=True))
    return Rates(statistics.median(bare), statistics.median(whole), ratio)


def _bare(
    stream_format: str, encoding: Encoding, counts: NDArray[np.uint16], stack: int, messages: list[Parts]
) -> tuple[list[_Place], Unpack]:
    """Return where the decompressor's input lies in each message, and the decompressor."""
    framed = encoding == "lz4" and stream_format == "dectris-v2"
    stacks = [counts[first : first + stack] for first in range(0, len(counts), stack)]
    blobs = (encode_pixels(frames, "hdf5-lz4" if framed else encoding) for frames in stacks)
    places = [_place(parts, blob) for parts, blob in zip(messages, blobs, strict=True)]
    if encoding == "raw":
        return places, partial(np.frombuffer, dtype=counts.dtype)
    if encoding == "lz4" and not framed:
        return places, partial(lz4.block.decompress, uncompressed_size=stacks[0].nbytes)
    return places, _framed(encoding)


def _place(parts: Parts, blob: bytes) -> _Place:
    """Return the part that holds some bytes, and where in it they are."""
    number = max(range(len(parts)), key=lambda n: len(parts[n]))
    begin = parts[number].index(blob)
    return number, slice(begin, begin + len(blob))


def _framed(algorithm: str) -> Unpack:
    """Return what unpacks the framing of the HDF5 filters."""
    compiled = compiled_decompress()
    if compiled is None:
        raise ConfigError("the extra `fast`, dectris-compression, is what the formats are measured beside")
    return lambda blob: compiled(blob, algorithm, elem_size=2)


def _bare_s(messages: list[Parts], places: list[_Place], unpack: Unpack) -> float:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        coming = iter([places[0], *places])

        def take() -> None:
            number, where = next(coming)
            unpack(memoryview(socket.recv_multipart()[number])[where])

        return _taken_s(endpoint, messages, take, messages[0])


def _whole_s(stream_format: str, frames: int, start: Parts, messages: list[Parts]) -> float:
    joiner = Joiner(_PATIENCE_S, frames, DEFAULT_LIMITS.max_scan_frames)
    joiner.add_positions(Positions(SCAN, 0, np.zeros((frames, 2))))
    with Source(FREE, decoder_for(stream_format), bind=True) as source:
        take = partial(_join_one, source, joiner)
        return _taken_s(source.endpoint, messages, take, start)


def _join_one(source: Source, joiner: Joiner) -> None:
    """Take one message and join what it brings."""
    received = source.receive(_PATIENCE_S)
    if received is None or received.error is not None:
        raise StreamError(f"the benchmark's own stream broke off: {received}")
    for event in received.events:
        if isinstance(event, Image) and joiner.add_image(event, 0.0) is None:
            raise StreamError(f"frame {event.index} of the benchmark's own stream met no position")


def _taken_s(endpoint: str, messages: list[Parts], take: Callable[[], None], start: Parts) -> float:
    """Return the seconds that it takes to take messages that have arrived after a first one, pile by pile."""
    taken_s = 0.0
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.set(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send_multipart(start)
        take()
        for begin in range(0, len(messages), _PILE):
            pile = messages[begin : begin + _PILE]
            for parts in pile:
                socket.send_multipart(parts)
            time.sleep(_SETTLE_S)
            begun_s = time.thread_time()
            for _ in pile:
                take()
            taken_s += time.thread_time() - begun_s
    return taken_s
