"""Which engine runs a bundle: the one that is asked for, or the fastest that starts on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Engine
from service.engines.graph import blank_frames, one_line
from service.engines.places import GpuPlace, name_and_number
from service.errors import EngineError, NotCompiledError

if TYPE_CHECKING:
    from service.engines.openvino import Precision

AUTO = "auto"
AUTO_LIMIT_RAD = 1e-3
"""How much "auto" lets an engine change the phase by, as the bundle states it; a tenth of what is allowed."""

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
    """The engine that runs, and all that were looked at.

    Attributes:
        engine: that runs.
        candidates: it, and the others; the first is told with its rate where there was a choice.
        later: names of those that could run once they are compiled.
    """

    engine: Engine
    candidates: tuple[Candidate, ...]
    later: tuple[str, ...] = ()


def choose_engine(bundle: Bundle, name: str = AUTO, threads: int = 0, gpu: GpuPlace | None = None) -> Choice:
    """Start the engine of that name; with "auto" the fastest of those that start.

    Candidates are timed only where there is a choice. A named engine is never replaced by another, and is
    compiled for the GPU if need be; "auto" only tells that it could be.

    Args:
        bundle: verified.
        name: of `ON_GPU`, perhaps with a colon and the GPU's number, of `ENGINES` or `ON_REQUEST`; or "auto".
        threads: of an engine on the CPU; 0: one a core.
        gpu: where an engine on a GPU runs that names none.

    Raises:
        EngineError: it does not start; of "auto", what ONNX Runtime on the CPU says, when none starts.
        ImportError: its library is not installed, likewise.
    """
    gpu = gpu or GpuPlace()
    if name != AUTO:
        return Choice(_named(bundle, name, threads, gpu), (Candidate(name),))
    started: dict[str, Engine] = {}
    failures: dict[str, EngineError | ImportError] = {}
    for candidate, start in _automatic(bundle, threads, gpu):
        try:
            started[candidate] = start()
        except (EngineError, ImportError) as error:
            failures[candidate] = error
    if not started:
        raise failures[_EVERYWHERE]
    refused = [Candidate(other, why_not=_reason(error)) for other, error in failures.items()]
    later = [other for other, error in failures.items() if isinstance(error, NotCompiledError)]
    return _fastest(started, refused, later)


def compile_engine(bundle: Bundle, name: str, gpu: GpuPlace, stopped: Callable[[], bool]) -> Engine:
    """Start an engine of `Choice.later`, compiled now.

    Args:
        bundle: verified.
        name: of the engine.
        gpu: where it runs.
        stopped: asked meanwhile whether to give up.

    Raises:
        EngineError: it cannot be compiled, or it was stopped.
    """
    return ON_GPU[name](bundle, gpu, stopped=stopped)


def measured_rate_hz(engine: Engine) -> float:
    """Return frames a second of an engine, the best of a few batches: others may use the machine."""
    frames = blank_frames(engine.bundle, _FRAMES)
    return _FRAMES / min(_infer_s(engine, frames) for _ in range(_TRIALS))


def _named(bundle: Bundle, name: str, threads: int, gpu: GpuPlace) -> Engine:
    base, number = name_and_number(name)
    if base in ON_GPU:
        return ON_GPU[base](bundle, gpu if number is None else replace(gpu, number=number))
    on_cpu = ENGINES | ON_REQUEST
    if name not in on_cpu:
        raise EngineError(f"there is no engine {name!r}: {', '.join((*ON_GPU, *on_cpu))}")
    return on_cpu[name](bundle, threads)


def _automatic(bundle: Bundle, threads: int, gpu: GpuPlace) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Return what starts each engine that "auto" may take."""
    yield "tensorrt", partial(_compiled_tensorrt, bundle, gpu)
    yield "onnxruntime-cuda", partial(ON_GPU["onnxruntime-cuda"], bundle, gpu)
    for name, start in ENGINES.items():
        yield name, partial(start, bundle, threads)


def _fastest(started: dict[str, Engine], refused: list[Candidate], later: list[str]) -> Choice:
    if len(started) == 1 and not later:
        ((name, engine),) = started.items()
        return Choice(engine, (Candidate(name), *refused))
    timed = [Candidate(name, measured_rate_hz(engine)) for name, engine in started.items()]
    timed.sort(key=lambda candidate: -(candidate.rate_hz or 0.0))
    return Choice(started[timed[0].name], (*timed, *refused), tuple(later))


def _infer_s(engine: Engine, frames: NDArray[Any]) -> float:
    begun_s = time.perf_counter()
    engine.infer(frames)
    return time.perf_counter() - begun_s


def _reason(error: EngineError | ImportError) -> str:
    return f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else one_line(error)


# A library is imported only to be used: each may be missing, and takes its time to load.


def _tensorrt(bundle: Bundle, gpu: GpuPlace, **how: Any) -> Engine:
    from service.engines.tensorrt import TensorRtEngine

    try:
        return TensorRtEngine(bundle, gpu, **how)
    except EngineError:
        raise
    except Exception as error:  # the library's errors have no base of their own
        raise EngineError(f"TensorRT does not start: {one_line(error)}") from error


def _compiled_tensorrt(bundle: Bundle, gpu: GpuPlace) -> Engine:
    """Start TensorRT as "auto" may: without the minutes that compiling takes, and where it hardly rounds."""
    told = bundle.description.gpu
    if told is not None and told.phase_rms_rad > AUTO_LIMIT_RAD:
        raise EngineError(f"it changes the phase by {told.phase_rms_rad:.4f} rad, so only on request")
    return ON_GPU["tensorrt"](bundle, gpu, may_compile=False)


def _onnxruntime_cuda(bundle: Bundle, gpu: GpuPlace, **_: Any) -> Engine:
    from service.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine

    return OnnxRuntimeCudaEngine(bundle, gpu)


def _openvino(bundle: Bundle, threads: int, precision: Precision = "f32") -> Engine:
    from service.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(bundle, threads, precision)


def _onnxruntime(bundle: Bundle, threads: int) -> Engine:
    from service.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, threads)


ON_GPU: dict[str, Callable[..., Engine]] = {
    "tensorrt": _tensorrt,
    "onnxruntime-cuda": _onnxruntime_cuda,
}

ENGINES: dict[str, Callable[[Bundle, int], Engine]] = {
    "openvino": _openvino,
    _EVERYWHERE: _onnxruntime,
}

ON_REQUEST: dict[str, Callable[[Bundle, int], Engine]] = {
    "openvino-bf16": partial(_openvino, precision="bf16"),
    "openvino-int8": partial(_openvino, precision="int8"),
}
"""They round more than float32 does: "auto" never takes them."""
