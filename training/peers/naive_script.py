"""What a careful script would do, in one process: receive, unpack, run torch, add tiles, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
_DTYPES = {64: "u1", 69: "<u2", 70: "<u4"}  # by the tags of DECTRIS Stream V2
_MARGIN_PX = 8  # of the canvas, which a script makes as large as the planned scan needs


@dataclass(frozen=True, slots=True)
class Told:
    """What a scan's positions and its bundle say of the canvas.

    Attributes:
        positions_m: (n, 2) y, x of all frames, metres.
        object_pixel_m: side of a pixel of the canvas.
    """

    positions_m: NDArray[np.float64]
    object_pixel_m: float


class NaiveScript:
    """Two sockets, a network and a canvas.

    Args:
        infer: takes counts (n, 1, H, W), gives planes (n, 1, H, W), amplitude first and phase second.
        told: of the scan.
        batch: frames that go through the network together.
        unpack: takes DECTRIS' compressed bytes, the algorithm and `elem_size`.

    Attributes:
        endpoints: where it takes images (DECTRIS Stream V2) and positions (native stream).
    """

    def __init__(
        self,
        infer: Callable[[Float32], list[Float32]],
        told: Told,
        batch: int,
        unpack: Callable[..., bytes],
    ) -> None:
        self._infer = infer
        self._told = told
        self._batch = batch
        self._unpack = unpack
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._images, self._positions = (context.socket(zmq.PULL) for _ in range(2))
        ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self._images, self._positions)]
        self.endpoints = f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}"

    def close(self) -> None:
        """Close the sockets."""
        self._images.close(linger=0)
        self._positions.close(linger=0)

    def wait(self) -> None:
        """Wait for the first message of a scan."""
        self._images.poll()

    def run(self) -> int:
        """Take one scan; return its frames."""
        corners = self._corners_px()
        canvas: Float32 | None = None
        waiting: list[tuple[int, NDArray[Any]]] = []
        frames = 0
        for index, counts in self._stream():
            if canvas is None:
                edge = np.asarray(counts.shape)
                canvas = np.zeros((4, *(corners.max(axis=0) + edge + _MARGIN_PX)), np.float32)
            waiting.append((index, counts))
            frames += 1
            if len(waiting) == self._batch:
                self._stitch(canvas, corners, waiting)
        if canvas is not None and waiting:
            self._stitch(canvas, corners, waiting)
        self._skip_positions()
        return frames

    def _stitch(self, canvas: Float32, corners: NDArray[np.intp], waiting: list[tuple[int, Any]]) -> None:
        counts = np.stack([frame for _, frame in waiting]).astype(np.float32)[:, None]
        amplitude, phase, *_ = self._infer(counts)
        height, width = counts.shape[2:]
        for (index, _), a, phi in zip(waiting, amplitude[:, 0], phase[:, 0], strict=True):
            y, x = corners[index]
            tile = canvas[:, y : y + height, x : x + width]
            tile[0] += 1
            tile[1] += a
            tile[2] += np.cos(phi)
            tile[3] += np.sin(phi)
        waiting.clear()

    def _corners_px(self) -> NDArray[np.intp]:
        """Return (n, 2) first row and column of each tile."""
        places = self._told.positions_m / self._told.object_pixel_m
        corners: NDArray[np.intp] = np.rint(places - places.min(axis=0)).astype(np.intp)
        return corners

    def _stream(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the frame number and the counts of each image, up to the end of the series."""
        while True:
            message = cbor2.loads(self._images.recv())
            if message["type"] == "end":
                return
            if message["type"] == "image":
                yield message["image_id"], self._counts(next(iter(message["data"].values())))

    def _counts(self, node: cbor2.CBORTag) -> NDArray[Any]:
        shape, typed = node.value
        dtype, content = np.dtype(_DTYPES[typed.tag]), typed.value
        if isinstance(content, cbor2.CBORTag):
            algorithm, _, packed = content.value
            content = self._unpack(packed, algorithm, elem_size=dtype.itemsize)
        return np.frombuffer(content, dtype).reshape(shape)

    def _skip_positions(self) -> None:
        """Take the positions out of their socket; the script knows them from the planned scan."""
        decoder = msgspec.msgpack.Decoder()
        while decoder.decode(self._positions.recv_multipart()[0])["type"] != "end":
            pass
