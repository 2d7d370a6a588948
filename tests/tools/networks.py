"""Small networks of random weights whose phase is determined, for what is exported of networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.export import ExportRequest
from model.network import NetworkConfig
from model.sadgs import SadgsConfig
from model.variants import Network, build_network

REQUEST = ExportRequest(
    name="tiny", object_pixel_m=3e-8, detector_saturation=65534.0, training={"seed": 1}, figures={}
)
TRUSTED = "probe-informed that says how sure it is"


def sure_network(kind: str, probe: NDArray[np.complex64], seed: int = 1) -> Network:
    """A network that says cos = 1 nearly everywhere: random, but with a phase that is determined."""
    tile = (32, 32) if kind == "paper" else (16, 16)
    trusted = {"exposure": "kept-out", "spread": True} if kind == TRUSTED else {}
    name = "probe-informed" if kind == TRUSTED else kind
    config = NetworkConfig(
        name, SadgsConfig(500.0), (32, 32), tile, amplitude_range=1.5, width=8, steps=2, **trusted
    )
    torch.manual_seed(seed)
    network = build_network(config, probe).eval()
    with torch.no_grad():
        if kind == "paper":
            network.decoders[1].head.bias.fill_(1.0)
        else:
            network.first.head.bias[4:8] = 1.0  # the pixel shuffle's four of cos
    return network


def random_network(
    probe: NDArray[np.complex64], tile: int = 32, percentile_counts: float = 500.0, **changes: Any
) -> Network:
    """A small network that knows its probe, of random weights: what physics says of any."""
    config = NetworkConfig(
        kind="probe-informed",
        sadgs=SadgsConfig(percentile_counts),
        frame_shape=(probe.shape[1], probe.shape[2]),
        tile_shape=(tile, tile),
        width=8,
        **{"amplitude_range": 1.5, "steps": 2, **changes},
    )
    torch.manual_seed(1)
    return build_network(config, probe).eval()
