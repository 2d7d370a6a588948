"""Every stage on its own, and how near it comes to what the machine allows.

A floor is the time that a stage cannot go below: the bytes that it has to move over the measured bandwidth
of the memory, for one thread, or the operations of the network over the measured peak. Caches may hold what
one stage hands to the next, so a stage that is bound by bytes can come above its share of one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from service.benchmarking.messages import SCAN, stream_messages
from service.benchmarking.timing import BATCH, Say, infer_all, spent
from service.engine import Engine
from service.messages import Tiles
from service.mosaic import Mosaic
from service.planes import SUMS
from service.sources import decoder_for
from service.spread import SPREAD_BY, Spread, spread, spread_in_numpy

_FRAMES: Final = 64
_COPIED: Final = 1 << 26  # bytes, more than caches hold
_FLOAT_BYTES: Final = 4
_TILE_PLANES: Final = 3  # amplitude, cos, sin


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a frame's way.

    Attributes:
        name: for the table.
        frames: that a call handles.
        call: does it once.
        bytes_a_frame: that it must read and write at least; None: it moves nothing, or not that counts.
        is_engine: the network's operations are its floor.
    """

    name: str
    frames: int
    call: Callable[[], object]
    bytes_a_frame: float | None = None
    is_engine: bool = False


@dataclass(frozen=True, slots=True)
class Floors:
    """What the machine allows.

    Attributes:
        bandwidth_bytes_per_s: of one thread that copies memory, read and written bytes together.
        peak_flop_per_s: of a large float32 matrix product with the engine's threads; None: not measured.
        operations_a_frame: of the network, a multiplication and an addition being two; None: not known.
    """

    bandwidth_bytes_per_s: float
    peak_flop_per_s: float | None = None
    operations_a_frame: float | None = None

    def allowed_hz(self, stage: Stage) -> float | None:
        """Return how many frames a second of a stage the machine allows, None where it has no floor."""
        if stage.is_engine:
            return self.engine_hz
        return None if stage.bytes_a_frame is None else self.bandwidth_bytes_per_s / stage.bytes_a_frame

    @property
    def engine_hz(self) -> float | None:
        """How many frames a second the network's operations allow."""
        if self.peak_flop_per_s is None or self.operations_a_frame is None:
            return None
        return self.peak_flop_per_s / self.operations_a_frame


def bandwidth_bytes_per_s(rounds: int) -> float:
    """Return how many bytes a second one thread reads and writes when it copies memory, median."""
    source = np.ones(_COPIED // 8)
    target = np.empty_like(source)
    return statistics.median(
        2 * _COPIED * spent(1, lambda: np.copyto(target, source)).rate_hz for _ in range(rounds)
    )


def measure_stages(
    engine: Engine,
    frames: NDArray[Any],
    positions_m: NDArray[np.float64],
    floors: Floors,
    rounds: int,
    say: Say,
) -> dict[str, dict[str, float | None]]:
    """Return by stage its frames a second, what the machine allows, and the share of it reached.

    Args:
        engine: runs the network.
        frames: (n, H, W) counts.
        positions_m: (n, 2) y, x of them, metres.
        floors: what the machine allows.
        rounds: times each rate is taken; the median is told.
        say: takes a line.
    """
    say(f"{'stage, frames/s':<26}{'rate':>10}{'floor':>12}{'share':>8}")
    figures = {}
    for stage in _stages(engine, frames[:_FRAMES], positions_m[:_FRAMES]):
        rate_hz = statistics.median(spent(stage.frames, stage.call).rate_hz for _ in range(rounds))
        allowed_hz = floors.allowed_hz(stage)
        share = None if allowed_hz is None else rate_hz / allowed_hz
        figures[stage.name] = {"rate_hz": rate_hz, "floor_hz": allowed_hz, "share_of_floor": share}
        told = "" if allowed_hz is None else f"{allowed_hz:>12.0f}{share:>8.1%}"
        say(f"{stage.name:<26}{rate_hz:>10.0f}{told}")
    return {"floors": asdict(floors), **figures}


def _stages(engine: Engine, frames: NDArray[Any], positions_m: NDArray[np.float64]) -> list[Stage]:
    counts = np.ascontiguousarray(frames[:, None])
    tiles = _tiles(engine, counts, positions_m)
    raw = stream_messages("native", "raw", frames)
    return [
        Stage("decode native raw", *_decoding("native", raw)),  # copies nothing: no floor
        _unpacking("decode native bslz4", "native", frames),
        _unpacking("decode DECTRIS V2 bslz4", "dectris-v2", frames),
        *(_inferring(engine, counts, batch) for batch in (1, BATCH, len(counts))),
        _stitching(f"stitch by {SPREAD_BY}", spread, tiles, engine),
        _stitching("stitch by NumPy alone", spread_in_numpy, tiles, engine),
    ]


def _decoding(stream_format: str, messages: list[list[bytes]]) -> tuple[int, Callable[[], object]]:
    """Return how many frames the messages after the first hold, and what decodes them."""
    start, *images = messages
    decoder = decoder_for(stream_format)
    decoder.decode(start, 0)
    return len(images), lambda: [decoder.decode(parts, 0) for parts in images]


def _unpacking(name: str, stream_format: str, frames: NDArray[Any]) -> Stage:
    messages = stream_messages(stream_format, "bslz4", frames)
    packed = sum(len(part) for parts in messages[1:] for part in parts)
    moved = (packed + frames.nbytes) / len(frames)
    return Stage(name, *_decoding(stream_format, messages), bytes_a_frame=moved)


def _inferring(engine: Engine, counts: NDArray[Any], batch: int) -> Stage:
    some = counts[: max(8, batch)]  # one by one they take long
    return Stage(f"engine, batch {batch}", len(some), partial(infer_all, engine, some, batch), is_engine=True)


def _stitching(name: str, spread: Spread, tiles: Tiles, engine: Engine) -> Stage:
    weight = probe_weight(engine.bundle.probe, tiles.cos.shape[1:])
    mosaic = Mosaic(engine.bundle.description.object_pixel_m, weight, spread=spread)
    bytes_a_tile = (_TILE_PLANES + 2 * SUMS) * weight.size * _FLOAT_BYTES
    return Stage(name, len(tiles.indices), partial(mosaic.add, tiles), bytes_a_tile)


def _tiles(engine: Engine, counts: NDArray[Any], positions_m: NDArray[np.float64]) -> Tiles:
    amplitude, cos, sin, *_ = engine.infer(counts)
    n = len(counts)
    return Tiles(SCAN, np.arange(n), positions_m, amplitude, cos, sin, np.zeros(n, np.int64))
