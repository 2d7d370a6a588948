"""What an engine's device can do at best: bytes that it copies, operations of a large matrix product.

On a GPU both are measured in the engine's own libraries, the product with TensorRT; on the CPU with NumPy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.benchmarking.stages import bandwidth_bytes_per_s
from service.benchmarking.suite import machine
from service.benchmarking.timing import Say
from service.engines.cuda import Gpu, Stream
from service.engines.tensorrt_plan import Heard, Library, strongly_typed, tensorrt_library
from service.errors import EngineError

_COPIED: Final = 1 << 30  # bytes, more than caches hold
_SIDE: Final = 8192
_SIDE_ON_CPU: Final = 2048
_TIMES: Final = 20
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Peaks:
    """The best that a device was seen to do; None: not known.

    Attributes:
        bytes_per_s: read and written together.
        flop_per_s: by type, "float32" and "float16".
    """

    bytes_per_s: float | None
    flop_per_s: dict[str, float]


def peaks_of(device: str, say: Say) -> Peaks:
    """Measure a device, "cpu" or "cuda:0"."""
    if device == "cpu":
        return Peaks(bandwidth_bytes_per_s(_ROUNDS), {"float32": _product_on_cpu()})
    gpu = Gpu(int(device.partition(":")[2]))
    gpu.use()
    products = {}
    for kind in ("float32", "float16"):
        try:
            products[kind] = _product_on_gpu(tensorrt_library(), gpu, kind)
        except EngineError as error:
            say(f"no peak in {kind}: {error}; give it by --peak-{kind.removeprefix('float')}-tflops")
    return Peaks(_copied_on_gpu(gpu), products)


def device_name(device: str) -> str:
    """Return what a device is called, "cpu" or "cuda:0"."""
    return machine() if device == "cpu" else Gpu(int(device.partition(":")[2])).name


def _product_on_cpu() -> float:
    a = np.ones((_SIDE_ON_CPU, _SIDE_ON_CPU), np.float32)
    return _flop(_SIDE_ON_CPU) / _best_s(lambda: a @ a)


def _copied_on_gpu(gpu: Gpu) -> float:
    stream, source, target = gpu.stream(), gpu.memory(_COPIED), gpu.memory(_COPIED)
    taken_s = _on_stream_s(stream, lambda: stream.copy_within(target, source, _COPIED))
    return 2 * _COPIED / taken_s


def _product_on_gpu(trt: Library, gpu: Gpu, kind: str) -> float:
    """Return the operations a second of a square matrix product in TensorRT, TensorFloat-32 being off."""
    heard = Heard(trt)
    runtime = trt.Runtime(heard.logger)
    engine = runtime.deserialize_cuda_engine(product_plan(trt, kind, _SIDE))
    if engine is None:
        raise heard.refusal("TensorRT does not load a matrix product")
    context, stream = engine.create_execution_context(), gpu.stream()
    held = {name: gpu.memory(4 * _SIDE * _SIDE) for name in ("a", "b", "product")}
    for name, memory in held.items():
        context.set_tensor_address(name, memory.address)
    return _flop(_SIDE) / _on_stream_s(stream, lambda: context.execute_async_v3(stream.handle))


def product_plan(trt: Library, kind: str, side: int) -> bytes:
    """Return the compiled product of two square matrices.

    Args:
        trt: the library.
        kind: "float32" or "float16".
        side: of the matrices.

    Raises:
        EngineError: it cannot be compiled here.
    """
    heard = Heard(trt)
    builder = trt.Builder(heard.logger)
    network, config = builder.create_network(strongly_typed(trt)), builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    matrices = [network.add_input(name, getattr(trt, kind), (side, side)) for name in ("a", "b")]
    plain = trt.MatrixOperation.NONE
    product = network.add_matrix_multiply(matrices[0], plain, matrices[1], plain).get_output(0)
    product.name = "product"
    network.mark_output(product)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise heard.refusal("TensorRT does not compile a matrix product")
    return bytes(plan)


def _flop(side: int) -> float:
    return 2.0 * side**3


def _on_stream_s(stream: Stream, work: Callable[[], Any]) -> float:
    """Return the seconds that a stream takes over some work, asked for many times at once."""

    def all_of_it() -> None:
        for _ in range(_TIMES):
            work()
        stream.mark()
        stream.wait()

    return _best_s(all_of_it) / _TIMES


def _best_s(work: Callable[[], Any]) -> float:
    work()
    taken_s = []
    for _ in range(_ROUNDS):
        begun_s = time.perf_counter()
        work()
        taken_s.append(time.perf_counter() - begun_s)
    return min(taken_s)
