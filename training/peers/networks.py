"""Published networks as they are run: in torch, and on the service's own ONNX Runtime.

Their weights are random: what they say is of no use, what it takes is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from model.export import write_onnx
from model.graph_costs import graph_costs
from model.network import NetworkConfig
from model.sadgs import SadgsConfig
from training.methods import METHODS

PUBLISHED: Final = {"PtychoNN": "ptychonn", "the paper's network": "paper"}
_OUTPUTS: Final = {"ptychonn": ("amplitude", "phase_rad"), "paper": ("amplitude", "cos", "sin")}
_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PERCENTILE_COUNTS: Final = 500.0  # of no consequence for what it takes

Float32 = NDArray[np.float32]
Run = Callable[[Float32], list[Float32]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A network and what runs it.

    Attributes:
        name: for the table.
        run: takes counts (n, 1, H, W).
        operations: a frame takes, a multiplication and an addition being two.
    """

    name: str
    run: Run
    operations: float


class _Said(nn.Module):
    """A network that gives its outputs as a plain tuple, as an exporter wants them."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, counts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 1, H, W) counts → planes (N, 1, H, W)."""
        said = self.network(counts)
        return tuple(getattr(said, name) for name in self.outputs)


def published_networks(frame_shape: tuple[int, int], threads: int, device: str, folder: Path) -> list[Peer]:
    """Return the published networks, each in torch and on ONNX Runtime.

    Args:
        frame_shape: (H, W) of the frames.
        threads: of ONNX Runtime; torch's are set for the process.
        device: "cpu" or "cuda".
        folder: where the exported graphs may lie as long as they are run.
    """
    config = NetworkConfig("paper", SadgsConfig(_PERCENTILE_COUNTS), frame_shape, frame_shape)
    peers = []
    for name, method in PUBLISHED.items():
        torch.manual_seed(1)
        network = _Said(METHODS[method].build(config), _OUTPUTS[method]).eval()
        graph = folder / f"{method}.onnx"
        write_onnx(network, torch.zeros(2, 1, *frame_shape), graph, network.outputs)
        operations = graph_costs(graph).all_operations
        peers.append(Peer(f"{name}, torch", in_torch(network.to(device), device), operations))
        peers.append(Peer(f"{name}, onnxruntime", _on_onnxruntime(graph, threads, device), operations))
    return peers


def in_torch(network: nn.Module, device: str) -> Run:
    """Return what runs a network eagerly, its answer back in the host's memory."""

    def run(counts: Float32) -> list[Float32]:
        with torch.inference_mode():
            return [plane.cpu().numpy() for plane in network(torch.from_numpy(counts).to(device))]

    return run


def _on_onnxruntime(graph: Path, threads: int, device: str) -> Run:
    """Return what runs a graph as the service's engine does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=[_PROVIDERS[device]])
    return lambda counts: session.run(None, {"counts": counts})
