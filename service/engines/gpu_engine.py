"""What engines on a GPU have in common: lanes with memory and a stream each, where batches overlap."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from service.engine import Inferred
from service.engines.cuda import Gpu, Stream
from service.engines.graph import as_inferred, joined
from service.engines.pipeline import Lane, Pipeline
from service.errors import EngineError

INPUT = "counts"


class Tensor(NamedTuple):
    """An input or output of a network: what each frame has of it, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class GpuLane(ABC):
    """Memory and a stream of a GPU, where a batch is copied in, computed and copied back.

    Lanes have streams of their own, so one's copies overlap with the other's kernels.

    Args:
        gpu: where.
        stream: of this lane alone.
        greatest: frames of a batch.
        tensors: all inputs and outputs of the network, the counts as the network takes them.
        wanted: outputs to give.

    Raises:
        EngineError: the GPU has not the memory.
    """

    def __init__(
        self,
        gpu: Gpu,
        stream: Stream,
        greatest: int,
        tensors: Mapping[str, Tensor],
        wanted: Sequence[str],
    ) -> None:
        self.gpu = gpu
        self.stream = stream
        self.host = {
            name: gpu.pinned((greatest, *tensor.shape), tensor.dtype) for name, tensor in tensors.items()
        }
        self.device = {name: gpu.memory(array.nbytes) for name, array in self.host.items()}
        self._wanted = tuple(wanted)
        self._frames = 0

    def begin(self, counts: NDArray[Any]) -> None:
        """Have a batch computed.

        Args:
            counts: (n, 1, H, W), n at most `greatest`.

        Raises:
            EngineError: the GPU or the library refuses.
        """
        self.gpu.use()
        self._frames = len(counts)
        np.copyto(self.host[INPUT][: self._frames], self.as_taken(counts))
        self.ask(self._frames)
        self.stream.mark()

    def finish(self) -> Inferred:
        """Wait for the batch; return what the network says.

        Raises:
            EngineError: the GPU failed.
        """
        self.gpu.use()
        self.stream.wait()
        # copied: the lane takes the next batch
        arrays = [self.host[name][: self._frames].copy() for name in self._wanted]
        return as_inferred(self._wanted, arrays)

    def as_taken(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Return counts as the network takes them."""
        return counts

    def ask(self, frames: int) -> None:
        """Have what is in the host's memory copied in, computed and copied back; wait for nothing."""
        self.stream.copy_in(self.device[INPUT], self.host[INPUT][:frames])
        self.compute(frames)
        for name in self._wanted:
            self.stream.copy_out(self.host[name][:frames], self.device[name])

    @abstractmethod
    def compute(self, frames: int) -> None:
        """Have the network run on the stream, from and to the device's memory; wait for nothing."""


class GpuEngine:
    """An engine on a GPU: a `service.pool.DeviceEngine`.

    Attributes:
        bundle: what it runs.
        backend: the library.
        device: "cuda:0", with the GPU's number.
        room: batches that it has on their way.
    """

    backend: str

    def __init__(self, bundle: Bundle, gpu: Gpu, greatest: int, lanes: Sequence[Lane]) -> None:
        """Take the lanes.

        Args:
            bundle: that runs in them.
            gpu: that they are on.
            greatest: frames of a batch.
            lanes: at least one.
        """
        self.bundle = bundle
        self.device = f"cuda:{gpu.number}"
        self.room = len(lanes)
        self._greatest = greatest
        self._pipeline = Pipeline(lanes)

    def infer(self, counts: NDArray[Any]) -> Inferred:
        """Return what the network says of raw counts (n, 1, H, W), in batches as large as it takes.

        Raises:
            EngineError: the run failed, or the counts are not of the graph's shape or dtype.
        """
        parts = [self._begun(counts[k : k + self._greatest]) for k in range(0, len(counts), self._greatest)]
        found = [part.result() for part in parts]
        return found[0] if len(found) == 1 else joined(found)

    def submit(self, counts: NDArray[Any]) -> Future[Inferred]:
        """Have raw counts (n, 1, H, W) run; wait only while `room` batches are on their way.

        Raises:
            EngineError: they are not of the graph's shape or dtype, or too many.
        """
        if len(counts) > self._greatest:
            raise EngineError(f"a batch of {len(counts)} frames: the engine takes {self._greatest}")
        return self._begun(counts)

    def close(self) -> None:
        """Wait for what is on its way."""
        self._pipeline.close()

    def _begun(self, counts: NDArray[Any]) -> Future[Inferred]:
        told = self.bundle.description
        if counts.dtype != told.counts_dtype or counts.shape[1:] != (1, *told.frame_shape):
            raise EngineError(
                f"{self.backend} does not run: {counts.dtype} {counts.shape} given, "
                f"{told.counts_dtype} of {told.frame_shape} taken"
            )
        return self._pipeline.submit(counts)
