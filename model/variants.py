"""From a configuration to the network that it names: the one place that knows every kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.network import NetworkConfig, PaperNetwork
from model.probe_informed import ProbeInformedNetwork

Network = PaperNetwork | ProbeInformedNetwork


def build_network(config: NetworkConfig, probe: NDArray[np.complex64]) -> Network:
    """Return the network that the configuration names; only the probe-informed kind looks at the probe.

    Raises:
        ValueError: the probe does not fit the configuration, or is dark.
    """
    if config.kind == "paper":
        return PaperNetwork(config)
    return ProbeInformedNetwork(config, probe)
