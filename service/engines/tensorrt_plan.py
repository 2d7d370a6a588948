"""A graph becomes a TensorRT engine: parsed and compiled. TensorRT for RTX needs no GPU for that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from model.bundle import Bundle
from service.engines.graph import one_line
from service.engines.plan_cache import BatchSizes
from service.errors import EngineError

log = logging.getLogger("ptycholive")

Stopped = Callable[[], bool]
Library = Any  # `tensorrt` or `tensorrt_rtx`: the same interface, neither has types

_LIBRARIES: Final = ("tensorrt", "tensorrt_rtx")


def gpu_graph(bundle: Bundle) -> Path:
    """Return the file of a bundle's graph for GPUs.

    Raises:
        EngineError: it has none.
    """
    if bundle.gpu_onnx is None:
        raise EngineError(
            f"{bundle.path} holds no network for GPUs: `ptycholive export BUNDLE --gpu SCAN` writes one"
        )
    return bundle.gpu_onnx


@cache
def tensorrt_library() -> Library:
    """Return TensorRT, or TensorRT for RTX where that is what is installed.

    Raises:
        EngineError: neither can be imported.
    """
    refusals = []
    for name in _LIBRARIES:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            refusals.append(f"{error.name} is not installed")
        except (ImportError, OSError, RuntimeError) as error:  # its own libraries do not load
            refusals.append(f"{name} does not load: {one_line(error)}")
    raise EngineError("; ".join(dict.fromkeys(refusals)))


def library_version(trt: Library) -> str:
    """Return name and version of the library, as compiled engines depend on both."""
    return f"{trt.__name__} {trt.__version__}"


class Heard:
    """What the library says while it works: warnings go to the log, the last error into our own."""

    def __init__(self, trt: Library) -> None:
        heard = self
        self.error = "the library says nothing more"

        class Logger(trt.ILogger):  # type: ignore[misc]
            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    heard.error = " ".join(message.split())
                elif severity == trt.ILogger.WARNING:
                    log.debug("TensorRT: %s", message)

        self.logger = Logger()

    def refusal(self, what: str) -> EngineError:
        """Return the error that says what did not work, and why."""
        return EngineError(f"{what}: {self.error}")


def compiled(trt: Library, graph: Path, batches: BatchSizes, stopped: Stopped = lambda: False) -> bytes:
    """Return the compiled engine of a graph that takes bytes.

    The types are those of the graph. TensorFloat-32 is off, which the library has on by itself: its 10 bits
    are too few for the counts of a bright frame.

    Args:
        trt: the library.
        graph: ONNX file.
        batches: sizes to compile for.
        stopped: asked between the steps whether to give up.

    Raises:
        EngineError: the graph is not understood, cannot be compiled here, or it was stopped.
    """
    heard = Heard(trt)
    try:
        builder = trt.Builder(heard.logger)
        network = builder.create_network(strongly_typed(trt))
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    except TypeError as error:  # the library gave nothing
        raise heard.refusal("TensorRT does not start: are the driver and the GPU there?") from error
    parser = trt.OnnxParser(network, heard.logger)
    if not parser.parse(graph.read_bytes()):
        raise EngineError(f"TensorRT does not understand {graph}: {_parse_errors(parser)}")
    config.clear_flag(trt.BuilderFlag.TF32)
    shape = tuple(network.get_input(0).shape)[1:]
    sizes = (batches.least, batches.typical, batches.greatest)
    profile.set_shape(network.get_input(0).name, *((frames, *shape) for frames in sizes))
    config.add_optimization_profile(profile)
    config.progress_monitor = monitor = _monitor(trt, stopped)
    plan = builder.build_serialized_network(network, config)
    if monitor.gave_up.is_set():
        raise EngineError("the compilation was stopped")
    if plan is None:
        raise heard.refusal(f"TensorRT does not compile {graph}")
    return bytes(plan)


def strongly_typed(trt: Library) -> int:
    """Return the flags of a network whose types are the graph's; later releases know no other."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse_errors(parser: Any) -> str:
    errors = [parser.get_error(k).desc() for k in range(parser.num_errors)]
    return " ".join("; ".join(errors).split()) or "it does not say why"


def _monitor(trt: Library, stopped: Stopped) -> Any:
    """Return what the builder asks after each step whether it shall go on."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.gave_up = threading.Event()

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:
            if stopped():
                self.gave_up.set()
            return not self.gave_up.is_set()

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()


def has_own_graphs(trt: Library) -> bool:
    """Say whether the library makes CUDA graphs by itself, as that for RTX does."""
    return hasattr(trt, "CudaGraphStrategy")
