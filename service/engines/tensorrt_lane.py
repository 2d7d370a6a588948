"""A lane of a GPU that TensorRT runs in: a batch is copied in, computed and copied back on one stream.

Lanes have streams of their own, so one's copies overlap with the other's kernels. A batch of a usual size is
launched as one CUDA graph: copies, kernels and all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.count_bytes import as_bytes
from service.engine import Inferred
from service.engines.cuda import Gpu, Graph
from service.engines.graph import as_inferred
from service.engines.pipeline import UsualSizes
from service.engines.tensorrt_plan import INPUT, Heard, Library, has_own_graphs
from service.errors import EngineError

log = logging.getLogger("ptycholive")


class TensorRtLane:
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
        self._trt, self._engine, self._gpu, self._heard = trt, engine, gpu, heard
        self._wanted = tuple(wanted)
        shapes = {
            name: (greatest, *tuple(engine.get_tensor_shape(name))[1:])
            for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
        }
        self._host = {
            name: gpu.pinned(shape, trt.nptype(engine.get_tensor_dtype(name)))
            for name, shape in shapes.items()
        }
        self._device = {name: gpu.memory(array.nbytes) for name, array in self._host.items()}
        self._stream = gpu.stream()
        self._activations = gpu.memory(engine.device_memory_size_v2)  # contexts of a lane take turns
        self._graphs: dict[int, Graph] = {}
        self._captured: list[Any] = []  # contexts, as long as their graphs
        self._usual = UsualSizes()
        self._captures = not has_own_graphs(trt)
        self._any = self._context()
        self._frames = 0

    def begin(self, counts: NDArray[Any]) -> None:
        """Have a batch (n, 1, H, W) computed.

        Raises:
            EngineError: the GPU or the library refuses.
        """
        self._gpu.use()
        self._frames = frames = len(counts)
        np.copyto(self._host[INPUT][:frames], as_bytes(counts))
        if frames in self._graphs:
            self._stream.launch(self._graphs[frames])
        elif self._captures and self._usual.are_with(frames):
            self._capture(frames)
        else:
            self._bind(self._any, frames)
            self._ask(self._any, frames)
        self._stream.mark()

    def finish(self) -> Inferred:
        """Wait for the batch; return what the network says.

        Raises:
            EngineError: the GPU failed.
        """
        self._gpu.use()
        self._stream.wait()
        # copied: the lane takes the next batch
        arrays = [self._host[name][: self._frames].copy() for name in self._wanted]
        return as_inferred(self._wanted, arrays)

    def _capture(self, frames: int) -> None:
        """Compute the batch with a context of its own, and keep its graph: a captured context stays as it is.

        The library does work that cannot be captured when a context runs for the first time.
        """
        context = self._context()
        self._bind(context, frames)
        self._ask(context, frames)
        try:
            self._graphs[frames] = self._stream.captured(lambda: self._ask(context, frames))
            self._captured.append(context)
        except EngineError as error:
            self._captures = False
            log.warning("TensorRT goes on without CUDA graphs: %s", error)

    def _context(self) -> Any:
        if has_own_graphs(self._trt):
            context = self._engine.create_execution_context(_with_graphs(self._trt, self._engine))
        else:
            by_lane = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(by_lane)
        if context is None:
            raise self._heard.refusal("TensorRT gives no context: has the GPU the memory?")
        if not has_own_graphs(self._trt):
            context.set_device_memory(self._activations.address, self._engine.device_memory_size_v2)
        context.set_optimization_profile_async(0, self._stream.handle)
        return context

    def _bind(self, context: Any, frames: int) -> None:
        if not context.set_input_shape(INPUT, (frames, *self._host[INPUT].shape[1:])):
            raise self._heard.refusal(f"TensorRT takes no batch of {frames}")
        for name, memory in self._device.items():
            context.set_tensor_address(name, memory.address)

    def _ask(self, context: Any, frames: int) -> None:
        """Copy in, compute, copy back: asked for, not waited for."""
        self._stream.copy_in(self._device[INPUT], self._host[INPUT][:frames])
        if not context.execute_async_v3(self._stream.handle):
            raise self._heard.refusal("TensorRT does not run")
        for name in self._wanted:
            self._stream.copy_out(self._host[name][:frames], self._device[name])


def _with_graphs(trt: Library, engine: Any) -> Any:
    """Return what has TensorRT for RTX make CUDA graphs itself, of kernels that are there from the first."""
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return config
