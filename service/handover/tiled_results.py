"""Results on a Tiled server (blueskyproject.io/tiled), beside a facility's other data; the extra `tiled`.

Each result file becomes a container of its name, with an array for each channel and for the positions; its
metadata say what the file says. What idle time adds to a file is added there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from tiled.client import from_uri
from tiled.client.container import Container

from service.errors import ConfigError
from service.handover.result import Plane, Result, read_result
from service.images import Channel

SPEC = "ptycholive"

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request

_AXES = ("y", "x")


class TiledResults:
    """Writes results to a Tiled server in a thread of its own: neither scans nor result files wait for it.

    Args:
        url: of the server, or of a container on it.
        key: the server's API key; None asks it for nothing that needs one.
        failed: is told a line when a result did not get there.
    """

    def __init__(self, url: str, key: str | None, failed: Callable[[str], None]) -> None:
        self._url = url
        self._key = key
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tiled")

    def send(self, path: Path) -> None:
        """Write a result file there, or what is new in it, as soon as those before it are there."""
        self._thread.submit(self._send, path)

    def close(self) -> None:
        """Wait for what is on its way."""
        self._thread.shutdown()

    def _send(self, path: Path) -> None:
        try:
            send_result(self._url, self._key, path)
        except ConfigError as error:
            self._failed(str(error))


def send_result(url: str, key: str | None, path: Path) -> str:
    """Write a result file to a Tiled server; of one that is there already, what is new.

    Returns:
        Its key on the server.

    Raises:
        ConfigError: the file cannot be read, or the server cannot be reached, or it refuses.
    """
    result = read_result(path)
    try:
        root = from_uri(url, api_key=key)
        with closing(root.context.http_client):
            return _send(root, result)
    except (httpx.HTTPError, OSError, ValueError) as error:
        told = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f"{path.name} did not get to the Tiled server {url}: {told[0]}; is it up, and the key right? "
            f"`ptycholive tiled {path}` sends it again"
        ) from error


def _send(root: Container, result: Result) -> str:
    container = _container(root, result)
    for plane in result.planes.values():
        _write_plane(container, plane)
    _write(container, "positions", result.positions_m, {"units": "m"}, ("frame", "axis"))
    return str(container.item["id"])


def metadata(result: Result) -> dict[str, Any]:
    """Return what is told of a result, as plain values that Tiled can search."""
    return {
        **result.report,
        "model": {key: result.model[key] for key in ("name", "kind", "onnx_sha256")},
        "program": f"ptycholive {result.program_version}",
        "file": str(result.path.resolve()),
        "refinement": result.refinement,
    }


def _container(root: Container, result: Result) -> Container:
    key, told = result.path.stem, metadata(result)
    if key in root and root[key].metadata.get("started") != told["started"]:
        key += f"_{told['started']}"  # another scan of that name
    if key not in root:
        return root.create_container(key, metadata=told, specs=[SPEC])
    root[key].update_metadata(told)
    return root[key]


def _write_plane(container: Container, plane: Plane) -> None:
    told = {
        "units": "rad" if plane.channel is Channel.PHASE else "1",
        "y_m": [float(edge) for edge in plane.y_m[[0, -1]]] if len(plane.y_m) else [],
        "x_m": [float(edge) for edge in plane.x_m[[0, -1]]] if len(plane.x_m) else [],
    }
    _write(container, plane.name, plane.values, told, _AXES)


def _write(container: Container, name: str, values: Any, told: dict[str, Any], axes: tuple[str, str]) -> None:
    if values.size and name not in container:
        container.write_array(values, key=name, metadata=told, dims=axes)
