"""ONNX Runtime on an NVIDIA GPU, in float32: as exact as on the CPU.

Counts and tiles lie where the GPU reads and writes them, bound once and for all. The usual batch is one CUDA
graph, where the library can make it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime

from model.bundle import Bundle
from service.engines.cuda import Gpu
from service.engines.gpu_engine import INPUT, GpuEngine, GpuLane, Tensor
from service.engines.graph import Shape, blank_frames, checked_outputs, one_line, try_batches
from service.engines.places import GpuPlace
from service.errors import EngineError

log = logging.getLogger("ptycholive")

PROVIDER: Final = "CUDAExecutionProvider"
LANES: Final = 2
"""Batches on the way. Each lane has a session, as a session has one stream."""

_WARM_UP: Final = 3  # runs: the library captures the second
_NO_GRAPH: Final = -1  # the library's word for it


class OnnxRuntimeLane(GpuLane):
    """A session with its stream, and the memory that it is bound to.

    Args:
        bundle: what it runs.
        gpu: where.
        place: sizes of batches; the usual becomes a graph.
        graphs: whether it shall.

    Raises:
        EngineError: the graph does not load, is not the one described, or the GPU cannot be had.
    """

    def __init__(self, bundle: Bundle, gpu: Gpu, place: GpuPlace, graphs: bool) -> None:
        stream = gpu.stream()
        session = _session(bundle, gpu, {"user_compute_stream": str(stream.handle)}, graphs)
        wanted = _checked(bundle, session)
        told = bundle.description
        tensors = {INPUT: Tensor((1, *told.frame_shape), np.dtype(told.counts_dtype))}
        tensors |= {
            output.name: Tensor(tuple(output.shape[1:]), np.dtype(np.float32))
            for output in session.get_outputs()
        }
        super().__init__(gpu, stream, place.batches.greatest, tensors, wanted)
        self._tensors = tensors
        self._session = session
        self._onnx = bundle.onnx
        self._usual = place.batch_frames if graphs else 0
        self._bindings: dict[int, Any] = {}

    def compute(self, frames: int) -> None:
        """Have the session run on what is bound, and return before it has.

        Raises:
            EngineError: it refuses.
        """
        options = onnxruntime.RunOptions()
        graph = frames if frames == self._usual else _NO_GRAPH
        options.add_run_config_entry("gpu_graph_id", str(graph))
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        try:
            if frames not in self._bindings:
                self._bindings[frames] = self._bound(frames)
            self._session.run_with_iobinding(self._bindings[frames], options)
        except Exception as error:  # the library's errors have no base of their own
            raise EngineError(f"{self._onnx} does not run: {one_line(error)}") from error

    def _bound(self, frames: int) -> Any:
        binding = self._session.io_binding()
        for name, tensor in self._tensors.items():
            bind = binding.bind_input if name == INPUT else binding.bind_output
            shape = (frames, *tensor.shape)
            bind(name, "cuda", self.gpu.number, tensor.dtype.type, shape, self.device[name].address)
        return binding


class OnnxRuntimeCudaEngine(GpuEngine):
    """Runs a bundle with ONNX Runtime on an NVIDIA GPU, or not at all.

    Attributes:
        bundle: what it runs.
        backend, device: "onnxruntime", "cuda:0" with the GPU's number.
        room: batches that it has on their way.
    """

    backend = "onnxruntime"

    def __init__(self, bundle: Bundle, place: GpuPlace) -> None:
        """Load the network; without CUDA graphs where the library can make none of it.

        Args:
            bundle: verified.
            place: GPU and sizes of batches.

        Raises:
            EngineError: the graph does not load, is not the one described, or the GPU cannot be had.
        """
        if PROVIDER not in onnxruntime.get_available_providers():
            raise EngineError(f"this onnxruntime has no {PROVIDER}")
        gpu = Gpu(place.number)
        try:
            self._start(bundle, gpu, place, graphs=True)
        except EngineError as error:
            log.info("ONNX Runtime goes on without CUDA graphs: %s", error)
            self._start(bundle, gpu, place, graphs=False)

    def _start(self, bundle: Bundle, gpu: Gpu, place: GpuPlace, *, graphs: bool) -> None:
        lanes = [OnnxRuntimeLane(bundle, gpu, place, graphs) for _ in range(LANES)]
        super().__init__(bundle, gpu, place.batches.greatest, lanes)
        try_batches(self)
        for _ in range(LANES * _WARM_UP):
            self.infer(blank_frames(bundle, place.batch_frames))


def _session(bundle: Bundle, gpu: Gpu, more: Mapping[str, str], graphs: bool) -> onnxruntime.InferenceSession:
    """Return a session on that GPU, never on anything else.

    Raises:
        EngineError: the graph does not load there.
    """
    told = {
        "device_id": str(gpu.number),
        # TensorFloat-32 keeps 10 bits, too few for the counts of a bright frame
        "use_tf32": "0",
        "enable_cuda_graph": str(int(graphs)),
        **more,
    }
    try:
        session = onnxruntime.InferenceSession(bundle.onnx, providers=[(PROVIDER, told)])
    except Exception as error:  # the library's errors have no base of their own
        raise EngineError(f"{bundle.onnx} does not load: {one_line(error)}") from error
    if session.get_providers()[0] != PROVIDER:  # it only logs when its libraries do not load
        raise EngineError(f"{PROVIDER} does not start: are the driver and its libraries there?")
    session.disable_fallback()  # else it goes on with the CPU when a run fails
    return session


def _checked(bundle: Bundle, session: onnxruntime.InferenceSession) -> Sequence[str]:
    inputs, outputs = (
        {node.name: _shape(node) for node in nodes} for nodes in (session.get_inputs(), session.get_outputs())
    )
    return checked_outputs(bundle, inputs, outputs)


def _shape(node: Any) -> Shape:
    return tuple(node.shape[1:])
