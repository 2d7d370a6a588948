"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.engines.graph import as_inferred, checked_outputs, cores, one_line, try_batches
from service.errors import EngineError


class OpenVinoEngine:
    """Runs a bundle with OpenVINO.

    Attributes:
        bundle: what it runs.
        backend, device: "openvino", "cpu".
    """

    backend = "openvino"
    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Load and compile the network.

        Args:
            bundle: verified.
            threads: 0: one a core.

        Raises:
            EngineError: the graph does not compile, or is not the one that its description tells of.
        """
        self.bundle = bundle
        properties = {
            "INFERENCE_NUM_THREADS": threads or cores(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, all threads on it
            "INFERENCE_PRECISION_HINT": "f32",  # it takes bfloat16 by itself where the processor has it
        }
        try:
            self._compiled = openvino.Core().compile_model(bundle.onnx, "CPU", properties)
        except Exception as error:  # the library raises RuntimeError and errors of its parsers
            raise EngineError(f"{bundle.onnx} does not load: {one_line(error)}") from error
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
                f"{self.bundle.onnx} does not run: {counts.dtype} {counts.shape} given, "
                f"{told.counts_dtype} of {told.frame_shape} taken"
            )
        try:
            found = self._request.infer({"counts": counts})
        except Exception as error:
            raise EngineError(f"{self.bundle.onnx} does not run: {one_line(error)}") from error
        # copied: the request writes its next answer into the same memory
        return as_inferred(self._outputs, [np.array(found[name]) for name in self._outputs])


def _shapes(ports: Iterable[Any]) -> dict[str, tuple[Any, ...]]:
    """Return each input's or output's shape without the batch's axis."""
    return {port.any_name: _sides(port.partial_shape) for port in ports}


def _sides(shape: Any) -> tuple[Any, ...]:
    return tuple(side.get_length() if side.is_static else str(side) for side in list(shape)[1:])
