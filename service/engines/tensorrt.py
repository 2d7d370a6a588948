"""TensorRT on an NVIDIA GPU: a bundle's graph for GPUs, compiled once for the GPU that is there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.bundle import Bundle
from service.engines.cuda import Gpu
from service.engines.gpu_engine import INPUT, GpuEngine
from service.engines.graph import Shape, blank_frames, checked_outputs, one_line, try_batches
from service.engines.pipeline import OFTEN
from service.engines.places import GpuPlace
from service.engines.plan_cache import PlanCache, PlanKey
from service.engines.tensorrt_lane import TensorRtLane, tensors_of
from service.engines.tensorrt_plan import (
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


class TensorRtEngine(GpuEngine):
    """Runs a bundle's graph for GPUs with TensorRT, or with TensorRT for RTX where that is installed.

    Attributes:
        bundle: what it runs.
        backend: the library with the precision of the convolutions, "tensorrt-float16".
        device: "cuda:0", with the GPU's number.
        room: batches that it has on their way.
    """

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
        self.backend = f"{trt.__name__.replace('_', '-')}-float16"
        gpu.use()
        key = plan_key(bundle, gpu.name, gpu.capability, trt, place)
        heard = Heard(trt)
        self._runtime = trt.Runtime(heard.logger)  # lives as long as its engine
        engine = self._loaded(trt, graph, key, PlanCache(place.cache), may_compile, stopped)
        if engine is None:
            raise heard.refusal(f"TensorRT does not load what it compiled of {graph}")
        wanted, greatest = _checked(bundle, trt, engine), place.batches.greatest
        lanes = [TensorRtLane(trt, engine, gpu, greatest, wanted, heard) for _ in range(LANES)]
        super().__init__(bundle, gpu, greatest, lanes)
        try_batches(self)
        for _ in range(LANES * OFTEN):  # then the usual batch is a graph, in every lane
            self.infer(blank_frames(bundle, place.batch_frames))

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
    for name, tensor in tensors_of(trt, engine).items():
        shapes[engine.get_tensor_mode(name)][name] = tensor.shape
    inputs = shapes[trt.TensorIOMode.INPUT]
    itemsize = np.dtype(bundle.description.counts_dtype).itemsize
    if inputs.get(INPUT, ())[-1:] == (itemsize,):
        inputs[INPUT] = inputs[INPUT][:-1]
    return list(checked_outputs(bundle, inputs, shapes[trt.TensorIOMode.OUTPUT]))
