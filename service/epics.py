"""The mosaic as EPICS channels, NTNDArray over pvAccess, for control rooms that live in EPICS.

`PREFIX:Phase` (radians) and `PREFIX:Amplitude` hold the mosaic of the current, or else the latest, scan as
float32 arrays (H, W), rows downward; a pixel without light is 0. They are posted when the mosaic has changed,
at most so many times a second. Needs the extra `epics`.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from typing import Any

import numpy as np
from p4p.nt import NTNDArray
from p4p.server import Server
from p4p.server.thread import SharedPV

from service.errors import ConfigError
from service.messages import Float32
from service.mosaic import Mosaic
from service.web.view import LiveView

CHANNELS = {"Phase": "phase", "Amplitude": "amplitude"}

_MOST_PX = 2048  # each way; of a larger mosaic every 2nd, 3rd … pixel is posted


class EpicsChannels:
    """Posts what a service stitches until it is stopped.

    Args:
        view: the running service.
        prefix: of the channels' names.
        rate_hz: how often the arrays may be posted.
        interface: address to listen on; EPICS asks nobody for a token.
        conf: further settings of pvAccess by their EPICS names.

    Raises:
        ConfigError: pvAccess cannot listen there.
    """

    def __init__(
        self,
        view: LiveView,
        prefix: str,
        rate_hz: float = 2.0,
        interface: str = "127.0.0.1",
        conf: dict[str, str] | None = None,
    ) -> None:
        self._view = view
        self._period_s = 1 / rate_hz
        self._posted: tuple[Mosaic, int] | None = None  # the mosaic, and its version
        self._stopping = threading.Event()
        empty = np.zeros((1, 1), np.float32)
        self._channels = {name: SharedPV(nt=NTNDArray(), initial=empty) for name in CHANNELS}
        self._server = _serve(
            {f"{prefix}:{name}": channel for name, channel in self._channels.items()}, interface, conf or {}
        )
        self._thread = threading.Thread(target=self._work, name="epics")
        self._thread.start()

    def conf(self) -> dict[str, str]:
        """Return the settings of pvAccess with which a client on this machine finds the channels."""
        told: dict[str, str] = self._server.conf()
        return told

    def stop(self) -> None:
        """Post no more, and close the channels."""
        self._stopping.set()
        self._thread.join()
        self._server.stop()

    def _work(self) -> None:
        while not self._stopping.wait(self._period_s):
            mosaic = self._shown()
            if mosaic is None or mosaic.version == 0:
                continue
            state = (mosaic, mosaic.version)
            if state != self._posted:
                self._post(mosaic)
                self._posted = state

    def _shown(self) -> Mosaic | None:
        scan = self._view.status()["current_scan"]
        if scan is None:
            scan = next((each["scan"] for each in self._view.scans()), None)
        return None if scan is None else self._view.mosaic(scan)

    def _post(self, mosaic: Mosaic) -> None:
        bounds, now_s = mosaic.bounds(), time.time()
        for name, channel in CHANNELS.items():
            self._channels[name].post(sampled(mosaic.image(channel, bounds)), timestamp=now_s)


def sampled(image: Float32, most_px: int = _MOST_PX) -> Float32:
    """Return every k-th pixel of an image (H, W), with the least k that leaves at most so many each way."""
    step = max(1, -(-max(image.shape) // most_px))
    return np.ascontiguousarray(image[::step, ::step])


def is_open_to_others(interface: str) -> bool:
    """Return whether machines beside this one can reach an address.

    Raises:
        ConfigError: it is no address.
    """
    try:
        return not ipaddress.ip_address(interface).is_loopback
    except ValueError as error:
        raise ConfigError(f"epics_interface: {error}") from error


def _serve(channels: dict[str, Any], interface: str, conf: dict[str, str]) -> Server:
    told = {"EPICS_PVAS_INTF_ADDR_LIST": interface, "EPICS_PVAS_BEACON_ADDR_LIST": interface, **conf}
    try:
        return Server(providers=[channels], conf=told, useenv=False)
    except RuntimeError as error:
        raise ConfigError(f"pvAccess cannot listen on {interface}: {error}") from error
