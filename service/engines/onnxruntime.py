"""ONNX Runtime, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.engines.graph import as_inferred, checked_outputs, cores, one_line, try_batches
from service.errors import EngineError


class OnnxRuntimeEngine:
    """Runs a bundle with ONNX Runtime on the CPU.

    Attributes:
        bundle: what it runs.
        backend, device: "onnxruntime", "cpu".
    """

    backend = "onnxruntime"
    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Load the network.

        Args:
            bundle: verified.
            threads: 0: one a core.

        Raises:
            EngineError: the graph does not load, or is not the one that its description tells of.
        """
        self.bundle = bundle
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        # Threads that spin between the operators of a run make it faster, the more so the fewer its frames;
        # between runs they would take the cores from receiving, stitching and the page.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # A plan of the memory for each size of batch is no faster, and holds as much once more.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library's errors have no base of their own
            raise EngineError(f"{bundle.onnx} does not load: {one_line(error)}") from error
        self._outputs = checked_outputs(
            bundle, _shapes(self._session.get_inputs()), _shapes(self._session.get_outputs())
        )
        try_batches(self)

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what the network says, as far as its graph has the outputs.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        try:
            arrays = self._session.run(self._outputs, {"counts": counts})
        except Exception as error:
            raise EngineError(f"{self.bundle.onnx} does not run: {one_line(error)}") from error
        return as_inferred(self._outputs, [np.asarray(array) for array in arrays])


def _shapes(nodes: list[Any]) -> dict[str, tuple[Any, ...]]:
    """Return each input's or output's shape without the batch's axis."""
    return {node.name: tuple(node.shape[1:]) for node in nodes}
