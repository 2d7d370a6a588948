"""A running service from Python: its mosaic as arrays that are always the newest.

    from service.client import Live

    live = Live("http://127.0.0.1:8080")
    live.phase                # in a notebook, a picture; np.asarray(live.phase) its numbers

It follows the service as the page does, over the WebSocket of `service.web.live`: only blocks that have
changed are sent, and of a huge mosaic a coarser level will do.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from service.colours import COLOUR_MAPS
from service.errors import ConfigError
from service.unwrap import unwrap_plane
from service.web.block_message import CHANNELS, unpack_block
from service.web.levels import COARSEST, LevelKey

UNWRAPPED = "unwrapped"

_EVERYWHERE = [-1_000_000, 1_000_000]
_MAX_MESSAGE_BYTES = 64 << 20
_OPEN_S = 10.0
_RETRY_S = 1.0
_POLL_S = 0.25
_PERCENTILES = (1, 99)


class LiveImage:
    """One channel of the mosaic: an array where arrays are taken, and a picture in a notebook.

    Args:
        live: the service.
        channel: "amplitude", "phase" or "unwrapped" (radians), "agreement", "coverage" or "confidence".
    """

    def __init__(self, live: Live, channel: str) -> None:
        self._live = live
        self.channel = channel

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the mosaic as it is now, (H, W) float32, rows downward, NaN where the beam was not."""
        if copy is False:
            raise ValueError("the mosaic is put together anew each time: it cannot be had without a copy")
        return self._live.array(self.channel).astype(np.float32 if dtype is None else dtype, copy=False)

    def __getitem__(self, where: Any) -> Any:
        """Return a part of the mosaic as it is now."""
        return np.asarray(self)[where]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.channel} of {self._live.scan or 'no scan'}, {' × '.join(map(str, self.shape))}>"

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) pixels now."""
        return self._live.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    def _repr_png_(self) -> bytes | None:
        """Return the picture that a notebook shows; None while there is nothing to see."""
        values = np.asarray(self)
        if not np.isfinite(values).any():
            return None
        file = io.BytesIO()
        Image.fromarray(coloured(values, self.channel)).save(file, format="PNG")
        return file.getvalue()


class Live:
    """Follows a service in a thread of its own until it is closed; comes back by itself after a loss.

    Args:
        url: address of the page.
        token: the service's, where it has one.
        scan: which scan; None follows the current one.
        level: a pixel stands for 2^level × 2^level pixels of the mosaic, 0 … 7; None takes the finest level
            that is at most about a thousand pixels each way.
        timeout_s: how long to wait for the first state.

    Attributes:
        amplitude, phase, agreement, coverage, confidence: the mosaic, see `LiveImage`.
        unwrapped: the phase without its jumps; pieces that do not touch, each for itself.

    Raises:
        ConfigError: the address is none, the level is none, or the service does not answer.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        scan: str | None = None,
        level: int | None = 0,
        timeout_s: float = _OPEN_S,
    ) -> None:
        if level is not None and not 0 <= level <= COARSEST:
            raise ConfigError(f"level {level} is not within 0 … {COARSEST}")
        self._address = _socket_address(url)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._scan = scan
        self._level = level
        self._wished: str | None = None
        self._blocks: dict[LevelKey, NDArray[np.float16]] = {}
        self._state: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._version = 0
        self._closing = threading.Event()
        self._trouble: str | None = "nothing came yet"
        self._thread = threading.Thread(target=self._follow, name="ptycholive client", daemon=True)
        self._thread.start()
        self._begin(timeout_s)
        self.amplitude, self.phase, self.agreement, self.coverage, self.confidence = (
            LiveImage(self, channel) for channel in CHANNELS
        )
        self.unwrapped = LiveImage(self, UNWRAPPED)

    def _begin(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._version > 0, timeout_s)
        if not self._state:
            self.close()
            raise ConfigError(
                f"no service answers at {self._address}: {self._trouble}; is it running, and the token right?"
            )

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Follow no longer; what came stays."""
        self._closing.set()
        self._thread.join()

    @property
    def trouble(self) -> str | None:
        """Why what is here is not the newest, None while the service is heard."""
        return self._trouble

    @property
    def state(self) -> Mapping[str, Any]:
        """What the service said last: `status`, `scans`, `name`, `scan` and `mosaic` as the page has them."""
        return self._state

    @property
    def scan(self) -> str | None:
        """Name of the scan that is shown, None before the first."""
        return self._state.get("name")

    @property
    def report(self) -> Mapping[str, Any]:
        """What is known of the scan: `ledger`, `ledger_words`, `rates`, `finished` …; empty without one."""
        return self._state.get("scan") or {}

    @property
    def pixel_m(self) -> float | None:
        """Side of a pixel of these arrays in the sample, metres; None while there is no mosaic."""
        mosaic = self._state.get("mosaic")
        return None if mosaic is None else mosaic["object_pixel_m"] * 2**self.level

    @property
    def level(self) -> int:
        """The level that is followed now."""
        if self._level is not None:
            return self._level
        mosaic = self._state.get("mosaic")
        return 0 if mosaic is None else _overview(mosaic["bounds"])

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) pixels of the mosaic, at this level."""
        y0, x0, y1, x1 = self._bounds()
        return y1 - y0, x1 - x0

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until something has changed; False when nothing has in time."""
        with self._changed:
            before = self._version
            return self._changed.wait_for(lambda: self._version != before, timeout_s)

    def array(self, channel: str) -> NDArray[np.float32]:
        """Return one channel as it is now, (H, W), rows downward, NaN where the beam was not."""
        if channel == UNWRAPPED:
            phase, coverage = self._planes("phase", "coverage")
            return unwrap_plane(np.nan_to_num(phase), np.nan_to_num(coverage))
        (plane,) = self._planes(channel)
        return plane

    def _planes(self, *channels: str) -> list[NDArray[np.float32]]:
        """Return channels of one moment."""
        y0, x0, y1, x1 = self._bounds()
        planes = [np.full((y1 - y0, x1 - x0), np.nan, np.float32) for _ in channels]
        with self._changed:
            blocks = [(key, block) for key, block in self._blocks.items() if key[0] == self.level]
        for (_, by, bx), block in blocks:
            for plane, channel in zip(planes, channels, strict=True):
                _place(plane, (by * block.shape[1] - y0, bx * block.shape[2] - x0), _covered(block, channel))
        return planes

    def _bounds(self) -> tuple[int, int, int, int]:
        mosaic = self._state.get("mosaic")
        if mosaic is None:
            return 0, 0, 0, 0
        side = 2**self.level
        y0, x0, y1, x1 = mosaic["bounds"]
        return y0 // side, x0 // side, -(-y1 // side), -(-x1 // side)

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connect() as connection:
                    self._listen(connection)
            except (OSError, WebSocketException) as error:
                self._lose(error)
                self._closing.wait(_RETRY_S)

    def _connect(self) -> ClientConnection:
        return connect(
            self._address,
            additional_headers=self._headers,
            max_size=_MAX_MESSAGE_BYTES,
            compression=None,
            proxy=None,
        )

    def _lose(self, error: Exception) -> None:
        """Tell that the service went away; the blocks stay until others come."""
        self._wished = None
        with self._changed:
            self._trouble = str(error)
            self._version += 1
            self._changed.notify_all()

    def _listen(self, connection: ClientConnection) -> None:
        while not self._closing.is_set():
            self._wish(connection)
            try:
                message = connection.recv(_POLL_S)
            except TimeoutError:
                continue
            with self._changed:
                self._take(message)
                self._trouble = None
                self._version += 1
                self._changed.notify_all()

    def _wish(self, connection: ClientConnection) -> None:
        level = self.level
        window = {"level": level, "rows": _EVERYWHERE, "columns": _EVERYWHERE}
        wish = json.dumps({"scan": self._scan, "windows": [window]})
        if wish != self._wished:
            connection.send(wish)
            self._wished = wish
            with self._changed:
                self._blocks = {key: block for key, block in self._blocks.items() if key[0] == level}

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            block = unpack_block(message)
            self._blocks[block.key] = block.pixels
            return
        told = json.loads(message)
        if told["type"] != "state":
            return
        if _generation(told) != _generation(self._state):
            self._blocks.clear()
        self._state = told


def coloured(values: NDArray[np.float32], channel: str) -> NDArray[np.uint8]:
    """Return values (H, W) in the colours of the page, (H, W, 4) RGBA; transparent where they are NaN.

    Between the 1st and 99th percentile; a phase about its circular mean, over the whole circle.
    """
    known = np.isfinite(values)
    shown = np.where(known, values, 0)
    if channel == "phase":
        mean = np.angle(np.exp(1j * values[known]).mean()) if known.any() else 0.0
        place = (shown - mean) / (2 * np.pi) % 1.0
    else:
        low, high = np.percentile(values[known], _PERCENTILES) if known.any() else (0.0, 1.0)
        place = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    table = COLOUR_MAPS[channel]
    colours = table[np.minimum((place * len(table)).astype(int), len(table) - 1)]
    return np.dstack([colours, np.where(known, 255, 0).astype(np.uint8)])


def _socket_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{url} is no address of a service, such as http://127.0.0.1:8080")
    return f"{parts.scheme.replace('http', 'ws')}://{parts.netloc}/api/live"


def _generation(state: Mapping[str, Any]) -> int | None:
    mosaic = state.get("mosaic")
    return None if mosaic is None else mosaic["generation"]


def _overview(bounds: list[int], most_px: int = 1024) -> int:
    """Return the finest level at which bounds [y0, x0, y1, x1] are at most so many pixels each way."""
    longest = max(bounds[2] - bounds[0], bounds[3] - bounds[1], 1)
    return min(COARSEST, max(0, (-(-longest // most_px) - 1).bit_length()))


def _covered(block: NDArray[np.float16], channel: str) -> NDArray[np.float32]:
    plane: NDArray[np.float32] = block[CHANNELS.index(channel)].astype(np.float32)
    plane[block[CHANNELS.index("coverage")] <= 0] = np.nan
    return plane


def _place(plane: NDArray[np.float32], corner: tuple[int, int], block: NDArray[np.float32]) -> None:
    """Write a block into a plane, as far as it lies within."""
    (top, left), (height, width) = corner, block.shape
    rows = slice(max(top, 0), max(0, min(top + height, plane.shape[0])))
    columns = slice(max(left, 0), max(0, min(left + width, plane.shape[1])))
    plane[rows, columns] = block[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
