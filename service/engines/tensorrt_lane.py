"""A lane of a GPU that TensorRT runs in. A usual batch is one CUDA graph: copies, kernels and all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.count_bytes import as_bytes
from service.engines.cuda import Gpu, Graph
from service.engines.gpu_engine import INPUT, GpuLane, Tensor
from service.engines.pipeline import UsualSizes
from service.engines.tensorrt_plan import Heard, Library, has_own_graphs
from service.errors import EngineError

log = logging.getLogger("ptycholive")


class TensorRtLane(GpuLane):
    """Memory, a stream and the contexts of a compiled engine.

    Args:
        trt: the library.
        engine: compiled and loaded on the GPU.
        gpu: that it is on.
        greatest: frames of a batch.
        wanted: outputs to give.
        heard: what the library says.

    Raises:
        EngineError: the GPU has not the memory.
    """

    def __init__(
        self, trt: Library, engine: Any, gpu: Gpu, greatest: int, wanted: Sequence[str], heard: Heard
    ) -> None:
        super().__init__(gpu, gpu.stream(), greatest, tensors_of(trt, engine), wanted)
        self._trt, self._engine, self._heard = trt, engine, heard
        self._activations = gpu.memory(engine.device_memory_size_v2)  # the contexts of a lane take turns
        self._graphs: dict[int, Graph] = {}
        self._captured: list[Any] = []  # contexts, as long as their graphs
        self._usual = UsualSizes()
        self._captures = not has_own_graphs(trt)
        self._any = self._running = self._context()

    def as_taken(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Return counts (n, 1, H, W) as bytes (n, 1, H, W, itemsize)."""
        return as_bytes(counts)

    def ask(self, frames: int) -> None:
        """Have the batch computed, by its graph where its size is a usual one.

        Raises:
            EngineError: the library refuses.
        """
        if frames in self._graphs:
            self.stream.launch(self._graphs[frames])
        elif self._captures and self._usual.are_with(frames):
            self._capture(frames)
        else:
            self._bind(self._any, frames)
            super().ask(frames)

    def compute(self, frames: int) -> None:
        """Have the context run that is bound to so many frames."""
        if not self._running.execute_async_v3(self.stream.handle):
            raise self._heard.refusal("TensorRT does not run")

    def _capture(self, frames: int) -> None:
        """Compute the batch with a context of its own, and keep its graph: a captured context stays as it is.

        The library does work that cannot be captured when a context runs for the first time.
        """
        context = self._context()
        self._bind(context, frames)
        super().ask(frames)
        try:
            self._graphs[frames] = self.stream.captured(lambda: super(TensorRtLane, self).ask(frames))
            self._captured.append(context)
        except EngineError as error:
            self._captures = False
            log.warning("TensorRT goes on without CUDA graphs: %s", error)

    def _context(self) -> Any:
        own_graphs = has_own_graphs(self._trt)
        how = (
            _with_graphs(self._trt, self._engine)
            if own_graphs
            else self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        context = self._engine.create_execution_context(how)
        if context is None:
            raise self._heard.refusal("TensorRT gives no context: has the GPU the memory?")
        if not own_graphs:
            context.set_device_memory(self._activations.address, self._engine.device_memory_size_v2)
        context.set_optimization_profile_async(0, self.stream.handle)
        return context

    def _bind(self, context: Any, frames: int) -> None:
        """Have a context run next, on so many frames."""
        self._running = context
        if not context.set_input_shape(INPUT, (frames, *self.host[INPUT].shape[1:])):
            raise self._heard.refusal(f"TensorRT takes no batch of {frames}")
        for name, memory in self.device.items():
            context.set_tensor_address(name, memory.address)


def tensors_of(trt: Library, engine: Any) -> dict[str, Tensor]:
    """Return the inputs and outputs of a compiled engine by name."""
    names = map(engine.get_tensor_name, range(engine.num_io_tensors))
    return {
        name: Tensor(
            tuple(engine.get_tensor_shape(name))[1:], np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        )
        for name in names
    }


def _with_graphs(trt: Library, engine: Any) -> Any:
    """Return what has TensorRT for RTX make CUDA graphs itself, of kernels that are there from the first."""
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return config
