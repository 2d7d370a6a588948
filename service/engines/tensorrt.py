"""TensorRT on an NVIDIA GPU: a bundle's graph for GPUs, compiled once for the GPU that is there."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.engines.cuda import Gpu
from service.engines.graph import Shape, blank_frames, checked_outputs, joined, one_line, try_batches
from service.engines.pipeline import OFTEN, Pipeline
from service.engines.places import GpuPlace
from service.engines.plan_cache import PlanCache, PlanKey
from service.engines.tensorrt_lane import TensorRtLane
from service.engines.tensorrt_plan import (
    INPUT,
    Heard,
    Library,
    Stopped,
    compiled,
    gpu_graph,
    library_version,
    tensorrt_library,
)
from service.errors import EngineError, NotCompiledError

log = logging.getLogger("ptycholive")

LANES: Final = 3
"""Batches on the way: one is copied in, one computed, one copied back."""


class TensorRtEngine:
    """Runs a bundle's graph for GPUs with TensorRT, or with TensorRT for RTX where that is installed.

    Attributes:
        bundle: what it runs.
        backend: the library with the precision of the convolutions, "tensorrt-float16".
        device: "cuda:0", with the GPU's number.
        room: batches that it has on their way.
    """

    room = LANES

    def __init__(
        self,
        bundle: Bundle,
        place: GpuPlace,
        *,
        may_compile: bool = True,
        stopped: Stopped = lambda: False,
    ) -> None:
        """Load the engine that was compiled for this GPU, or compile it, which takes seconds to minutes.

        Args:
            bundle: verified; it holds a graph for GPUs.
            place: GPU, cache and sizes of batches.
            may_compile: whether it may be compiled now.
            stopped: asked while it is compiled whether to give up.

        Raises:
            NotCompiledError: it is not yet compiled, and may not be.
            EngineError: bundle, GPU, driver or library are not such that it could run.
        """
        graph = gpu_graph(bundle)
        gpu = Gpu(place.number)
        trt = tensorrt_library()
        self.bundle = bundle
        self.backend = f"{trt.__name__.replace('_', '-')}-float16"
        self.device = f"cuda:{gpu.number}"
        self._greatest = place.batches.greatest
        gpu.use()
        key = plan_key(bundle, gpu.name, gpu.capability, trt, place)
        heard = Heard(trt)
        self._runtime = trt.Runtime(heard.logger)  # lives as long as its engine
        engine = self._loaded(trt, graph, key, PlanCache(place.cache.expanduser()), may_compile, stopped)
        if engine is None:
            raise heard.refusal(f"TensorRT does not load what it compiled of {graph}")
        self._outputs = _checked(bundle, trt, engine)
        lanes = [TensorRtLane(trt, engine, gpu, self._greatest, self._outputs, heard) for _ in range(LANES)]
        self._pipeline = Pipeline(lanes)
        try_batches(self)
        for _ in range(LANES * OFTEN):  # then the usual batch is a graph, in every lane
            self.infer(blank_frames(bundle, place.batch_frames))

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what the network says of raw counts (n, 1, H, W), in batches as large as it takes.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        parts = [self._begun(counts[k : k + self._greatest]) for k in range(0, len(counts), self._greatest)]
        found = [part.result() for part in parts]
        return found[0] if len(found) == 1 else joined(found)

    def submit(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Have raw counts (n, 1, H, W) run; wait only while `room` batches are on their way."""
        if len(counts) > self._greatest:
            raise EngineError(f"a batch of {len(counts)} frames: the engine takes {self._greatest}")
        return self._begun(counts)

    def close(self) -> None:
        """Wait for what is on its way."""
        self._pipeline.close()

    def _begun(self, counts: NDArray[Any]) -> Future[Inferred]:
        told = self.bundle.description
        if counts.dtype != told.counts_dtype or counts.shape[1:] != (1, *told.frame_shape):
            raise EngineError(
                f"TensorRT does not run: {counts.dtype} {counts.shape} given, "
                f"{told.counts_dtype} of {told.frame_shape} taken"
            )
        return self._pipeline.submit(counts)

    def _loaded(
        self,
        trt: Library,
        graph: Path,
        key: PlanKey,
        cache: PlanCache,
        may_compile: bool,
        stopped: Stopped,
    ) -> Any:
        """Return the engine on the GPU; None: the library does not take what it just compiled."""
        plan = cache.find(key)
        engine = None if plan is None else self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            cache.drop(key)
            plan = compiled_plan(trt, graph, key, cache, may_compile, stopped)
            engine = self._runtime.deserialize_cuda_engine(plan)
        return engine


def plan_key(bundle: Bundle, gpu: str, capability: tuple[int, int], trt: Library, place: GpuPlace) -> PlanKey:
    """Return what the compiled engine of a bundle is kept by."""
    told = bundle.description.gpu
    if told is None:
        raise EngineError(f"{bundle.path} holds no network for GPUs")
    return PlanKey(told.onnx_sha256, gpu, capability, library_version(trt), place.batches)


def compiled_plan(
    trt: Library, graph: Path, key: PlanKey, cache: PlanCache, may_compile: bool, stopped: Stopped
) -> bytes:
    """Return the compiled engine from the cache, or compile it and keep it there.

    Raises:
        NotCompiledError: it is not there, and may not be compiled.
        EngineError: it cannot be.
    """
    if (plan := cache.find(key)) is not None:
        return plan
    if not may_compile:
        raise NotCompiledError(f"it is not yet compiled for {key.gpu}")
    log.info("compiling the network for %s: this takes up to some minutes, once", key.gpu)
    plan = compiled(trt, graph, key.batches, stopped)
    try:
        cache.keep(key, plan)
    except EngineError as error:
        log.warning("%s; it will be compiled anew at the next start", one_line(error))
    return plan


def _checked(bundle: Bundle, trt: Library, engine: Any) -> list[str]:
    """Return the outputs to ask for, if the engine is of the graph that the bundle describes."""
    shapes: dict[Any, dict[str, Shape]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        shapes[engine.get_tensor_mode(name)][name] = tuple(engine.get_tensor_shape(name))[1:]
    inputs = shapes[trt.TensorIOMode.INPUT]
    itemsize = np.dtype(bundle.description.counts_dtype).itemsize
    if inputs.get(INPUT, ())[-1:] == (itemsize,):
        inputs[INPUT] = inputs[INPUT][:-1]
    return list(checked_outputs(bundle, inputs, shapes[trt.TensorIOMode.OUTPUT]))
