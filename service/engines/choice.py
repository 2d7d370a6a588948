"""Which engine runs a bundle: the one that is asked for, or the fastest that starts on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Engine
from service.engines.graph import blank_frames, one_line
from service.errors import EngineError

if TYPE_CHECKING:
    from service.engines.openvino import Precision

AUTO = "auto"
_TRIALS = 3
_FRAMES = 16
_EVERYWHERE = "onnxruntime"  # every machine can have it


@dataclass(frozen=True, slots=True)
class Candidate:
    """What became of an engine that could have run the bundle.

    Attributes:
        name: as the setting names it.
        rate_hz: frames a second in batches of 16; None: it was not timed.
        why_not: the reason in one line where it does not start.
    """

    name: str
    rate_hz: float | None = None
    why_not: str | None = None

    def __str__(self) -> str:
        if self.why_not is not None:
            return f"not {self.name}: {self.why_not}"
        return self.name if self.rate_hz is None else f"{self.name} {self.rate_hz:.0f} frames/s"


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that runs, and all that were looked at."""

    engine: Engine
    candidates: tuple[Candidate, ...]


def choose_engine(bundle: Bundle, name: str = AUTO, threads: int = 0) -> Choice:
    """Start the engine of that name; with "auto" the fastest of those that start.

    Candidates are timed only where more than one starts. A named engine is never replaced by another.

    Args:
        bundle: verified.
        name: of `ENGINES` or `ON_REQUEST`, or "auto".
        threads: of an engine on the CPU; 0: one a core.

    Raises:
        EngineError: it does not start; of "auto", what ONNX Runtime on the CPU says, when none starts.
        ImportError: its library is not installed, likewise.
    """
    if name != AUTO:
        return Choice((ENGINES | ON_REQUEST)[name](bundle, threads), (Candidate(name),))
    started: dict[str, Engine] = {}
    failures: dict[str, EngineError | ImportError] = {}
    for candidate, start in ENGINES.items():
        try:
            started[candidate] = start(bundle, threads)
        except (EngineError, ImportError) as error:
            failures[candidate] = error
    if not started:
        raise failures[_EVERYWHERE]
    refused = [Candidate(other, why_not=_reason(error)) for other, error in failures.items()]
    return _fastest(started, refused)


def measured_rate_hz(engine: Engine) -> float:
    """Return frames a second of an engine, the best of a few batches: others may use the machine."""
    frames = blank_frames(engine.bundle, _FRAMES)
    return _FRAMES / min(_infer_s(engine, frames) for _ in range(_TRIALS))


def _fastest(started: dict[str, Engine], refused: list[Candidate]) -> Choice:
    if len(started) == 1:
        ((name, engine),) = started.items()
        return Choice(engine, (Candidate(name), *refused))
    timed = [Candidate(name, measured_rate_hz(engine)) for name, engine in started.items()]
    timed.sort(key=lambda candidate: -(candidate.rate_hz or 0.0))
    return Choice(started[timed[0].name], (*timed, *refused))


def _infer_s(engine: Engine, frames: NDArray[Any]) -> float:
    begun_s = time.perf_counter()
    engine.infer(frames)
    return time.perf_counter() - begun_s


def _reason(error: EngineError | ImportError) -> str:
    return f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else one_line(error)


# A library is imported only to be used: each may be missing, and takes its time to load.


def _onnxruntime_cuda(bundle: Bundle, threads: int) -> Engine:
    from service.engines.onnxruntime import OnnxRuntimeCudaEngine

    return OnnxRuntimeCudaEngine(bundle, threads)


def _openvino(bundle: Bundle, threads: int, precision: Precision = "f32") -> Engine:
    from service.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(bundle, threads, precision)


def _onnxruntime(bundle: Bundle, threads: int) -> Engine:
    from service.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, threads)


ENGINES: dict[str, Callable[[Bundle, int], Engine]] = {
    "onnxruntime-cuda": _onnxruntime_cuda,
    "openvino": _openvino,
    _EVERYWHERE: _onnxruntime,
}

ON_REQUEST: dict[str, Callable[[Bundle, int], Engine]] = {
    "openvino-bf16": partial(_openvino, precision="bf16"),
    "openvino-int8": partial(_openvino, precision="int8"),
}
"""They round more than float32 does: "auto" never takes them."""
