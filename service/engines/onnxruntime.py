"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.errors import EngineError

OUTPUTS = ("amplitude", "cos", "sin")
COUNTS_DTYPES = ("uint8", "uint16", "uint32")


class OnnxRuntimeEngine:
    """Runs a bundle with ONNX Runtime.

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
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        # Threads that spin between the operators of a run make it a quarter faster; between runs they would
        # take the cores from receiving, stitching and the page.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library's errors have no base of their own
            raise EngineError(f"{bundle.onnx} does not load: {_one_line(error)}") from error
        self._check()

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return amplitude, cos and sin, each (n, h, w) float32.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        try:
            planes = self._session.run(OUTPUTS, {"counts": counts})
        except Exception as error:
            raise EngineError(f"{self.bundle.onnx} does not run: {_one_line(error)}") from error
        amplitude, cos, sin = (np.asarray(plane)[:, 0] for plane in planes)
        return amplitude, cos, sin

    def _check(self) -> None:
        """Compare the graph with its description, and run it once, so that the first frame does not wait."""
        told = self.bundle.description
        if told.counts_dtype not in COUNTS_DTYPES:
            raise EngineError(
                f"{self.bundle.path} takes counts of {told.counts_dtype!r}, not {' or '.join(COUNTS_DTYPES)}"
            )
        inputs = [(node.name, node.shape[1:]) for node in self._session.get_inputs()]
        if inputs != [("counts", [1, *told.frame_shape])]:
            raise EngineError(f"{self.bundle.onnx} takes {inputs}, its description says {told.frame_shape}")
        outputs = {node.name: tuple(node.shape[1:]) for node in self._session.get_outputs()}
        if outputs != dict.fromkeys(OUTPUTS, (1, *told.tile_shape)):
            raise EngineError(f"{self.bundle.onnx} gives {outputs}, its description says {told.tile_shape}")
        for frames in (1, 2):  # a graph that is exported for one size of batch cannot take another
            self.infer(np.zeros((frames, 1, *told.frame_shape), np.dtype(told.counts_dtype)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
