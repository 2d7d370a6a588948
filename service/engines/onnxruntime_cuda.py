"""ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

from model.bundle import Bundle
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.engines.places import GpuPlace


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """Runs a bundle with ONNX Runtime on an NVIDIA GPU, or not at all.

    Attributes:
        bundle: what it runs.
        backend, device: "onnxruntime", "cuda:0" with the GPU's number.
    """

    provider = "CUDAExecutionProvider"

    def __init__(self, bundle: Bundle, gpu: GpuPlace) -> None:
        """Load the network.

        Args:
            bundle: verified.
            gpu: where.

        Raises:
            EngineError: the graph does not load, is not the one described, or the GPU cannot be had.
        """
        self.device = f"cuda:{gpu.number}"
        # TensorFloat-32 keeps 10 bits, too few for the counts of a bright frame
        self.provider_options = {"device_id": str(gpu.number), "use_tf32": "0"}
        super().__init__(bundle)
