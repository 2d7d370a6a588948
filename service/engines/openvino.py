"""OpenVINO on the CPU, as exact as the bundle's figures were taken, or faster at a stated loss."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.engines.graph import as_inferred, checked_outputs, cores, one_line, try_batches
from service.errors import EngineError

Precision = Literal["f32", "bf16", "int8"]


class OpenVinoEngine:
    """Runs a bundle with OpenVINO.

    Attributes:
        bundle: what it runs.
        backend: "openvino", with the precision where it is not float32: "openvino-bf16", "openvino-int8".
        device: "cpu".
    """

    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 0, precision: Precision = "f32") -> None:
        """Load and compile the network.

        Args:
            bundle: verified.
            threads: 0: one a core.
            precision: "int8" runs the bundle's graph with 8-bit convolutions, the rest in float32; "bf16"
                everything in bfloat16.

        Raises:
            EngineError: the graph does not compile, or is not the one that its description tells of; the
                bundle or the processor has not the precision.
        """
        self.bundle = bundle
        self.backend = "openvino" if precision == "f32" else f"openvino-{precision}"
        self._onnx = _graph(bundle, precision)
        core = openvino.Core()
        properties = {
            "INFERENCE_NUM_THREADS": threads or cores(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, all threads on it
            "INFERENCE_PRECISION_HINT": _hint(core, precision),
        }
        try:
            self._compiled = core.compile_model(self._onnx, "CPU", properties)
        except Exception as error:  # the library raises RuntimeError and errors of its parsers
            raise EngineError(f"{self._onnx} does not load: {one_line(error)}") from error
        self._outputs = checked_outputs(
            bundle, _shapes(self._compiled.inputs), _shapes(self._compiled.outputs)
        )
        self._request = self._compiled.create_infer_request()
        try_batches(self)

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what the network says, as far as its graph has the outputs.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        told = self.bundle.description
        if counts.dtype != told.counts_dtype or counts.shape[1:] != (1, *told.frame_shape):
            # the library would cast or reshape them in silence
            raise EngineError(
                f"{self._onnx} does not run: {counts.dtype} {counts.shape} given, "
                f"{told.counts_dtype} of {told.frame_shape} taken"
            )
        try:
            found = self._request.infer({"counts": counts})
        except Exception as error:
            raise EngineError(f"{self._onnx} does not run: {one_line(error)}") from error
        # copied: the request writes its next answer into the same memory
        return as_inferred(self._outputs, [np.array(found[name]) for name in self._outputs])


def _graph(bundle: Bundle, precision: Precision) -> Path:
    """Return the file that holds the network in a precision."""
    if precision != "int8":
        return bundle.onnx
    if bundle.int8_onnx is None:
        raise EngineError(f"{bundle.path} holds no int8 network: `ptycholive export --int8 SCAN` writes one")
    return bundle.int8_onnx


def _hint(core: openvino.Core, precision: Precision) -> str:
    """Return what the library shall compute with; by itself it takes bfloat16 where the processor has it."""
    if precision != "bf16":
        return "f32"
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError("this processor has no bfloat16")
    return "bf16"


def _shapes(ports: Iterable[Any]) -> dict[str, tuple[Any, ...]]:
    """Return each input's or output's shape without the batch's axis."""
    return {port.any_name: _sides(port.partial_shape) for port in ports}


def _sides(shape: Any) -> tuple[Any, ...]:
    return tuple(side.get_length() if side.is_static else str(side) for side in list(shape)[1:])
