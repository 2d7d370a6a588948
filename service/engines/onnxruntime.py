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
TRUST_OUTPUTS = ("spread_rad", "residual")  # a graph may have them
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
        self._outputs: tuple[str, ...] = OUTPUTS
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
        """Return what the network says, as far as its graph has the outputs.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        try:
            arrays = self._session.run(self._outputs, {"counts": counts})
        except Exception as error:
            raise EngineError(f"{self.bundle.onnx} does not run: {_one_line(error)}") from error
        found = {name: np.asarray(array) for name, array in zip(self._outputs, arrays, strict=True)}
        return Inferred(**{name: array[:, 0] if array.ndim == 4 else array for name, array in found.items()})

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
        self._outputs = (*OUTPUTS, *(name for name in TRUST_OUTPUTS if name in outputs))
        if outputs != {name: _shape(name, told.tile_shape) for name in self._outputs}:
            raise EngineError(f"{self.bundle.onnx} gives {outputs}, its description says {told.tile_shape}")
        for frames in (1, 2):  # a graph that is exported for one size of batch cannot take another
            self.infer(np.zeros((frames, 1, *told.frame_shape), np.dtype(told.counts_dtype)))


def _shape(output: str, tile_shape: tuple[int, int]) -> tuple[int, ...]:
    """Return what each frame gets of an output."""
    return () if output == "residual" else (1, *tile_shape)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
