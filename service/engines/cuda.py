"""What the engines need of CUDA's runtime, through NVIDIA's own bindings.

Nothing here is loaded before it is asked for. Memory, streams and graphs are let go with their last user.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from service.errors import EngineError


@cache
def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError("cuda-bindings is not installed: the extra `gpu` brings it") from error
    return runtime


def _done(answer: tuple[Any, ...]) -> Any:
    """Return what a call gave beside its error.

    Raises:
        EngineError: there was one.
    """
    error, *values = answer
    if int(error):
        _, words = _runtime().cudaGetErrorString(error)
        raise EngineError(f"CUDA: {words.decode()}: nvidia-smi shows the driver, the GPUs and their memory")
    return values[0] if values else None


def gpu_count() -> int:
    """Return how many GPUs this process may use; 0 where there is no driver, or no binding to it."""
    try:
        return int(_done(_runtime().cudaGetDeviceCount()))
    except EngineError:
        return 0


class Gpu:
    """One GPU.

    Args:
        number: from 0, of those that this process may use: the fastest first, unless CUDA_DEVICE_ORDER says
            otherwise.

    Attributes:
        number: as given.
        name: of the product.
        capability: its compute capability, (9, 0).

    Raises:
        EngineError: it is not there.
    """

    def __init__(self, number: int) -> None:
        there = int(_done(_runtime().cudaGetDeviceCount()))
        if number >= there:
            raise EngineError(f"there is no GPU {number}: this process may use {there}, counted from 0")
        told = _done(_runtime().cudaGetDeviceProperties(number))
        self.number = number
        self.name = told.name.decode().rstrip("\0")
        self.capability = (int(told.major), int(told.minor))

    def use(self) -> None:
        """Have this thread's calls mean this GPU."""
        _done(_runtime().cudaSetDevice(self.number))

    def memory(self, nbytes: int) -> Memory:
        """Return memory of the GPU."""
        self.use()
        return Memory(nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array that the GPU copies from and to while this process goes on."""
        self.use()
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        address = int(_done(_runtime().cudaHostAlloc(nbytes, 0)))
        whole = (ctypes.c_uint8 * nbytes).from_address(address)
        weakref.finalize(whole, _runtime().cudaFreeHost, address)
        array: NDArray[Any] = np.ctypeslib.as_array(whole).view(kind).reshape(shape)
        return array

    def stream(self) -> Stream:
        """Return a stream of work that is done in order, beside that of other streams."""
        self.use()
        return Stream()


class Memory:
    """Memory of a GPU.

    Attributes:
        address: of its first byte.
    """

    def __init__(self, nbytes: int) -> None:
        self.address = int(_done(_runtime().cudaMalloc(max(1, nbytes))))
        weakref.finalize(self, _runtime().cudaFree, self.address)


class Stream:
    """Work that a GPU does in order.

    Attributes:
        handle: as other libraries want it.
    """

    def __init__(self) -> None:
        cuda = _runtime()
        self._stream = _done(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        # a thread that waits sleeps: receiving and stitching need the cores
        flags = cuda.cudaEventBlockingSync | cuda.cudaEventDisableTiming
        self._mark = _done(cuda.cudaEventCreateWithFlags(flags))
        self.handle = int(self._stream)
        weakref.finalize(self, cuda.cudaStreamDestroy, self._stream)
        weakref.finalize(self, cuda.cudaEventDestroy, self._mark)

    def copy_in(self, memory: Memory, array: NDArray[Any]) -> None:
        """Copy a pinned array, which lies in one piece, to the GPU."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(memory.address, array.ctypes.data, array.nbytes, kind)

    def copy_out(self, array: NDArray[Any], memory: Memory) -> None:
        """Fill a pinned array, which lies in one piece, from the GPU."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, memory.address, array.nbytes, kind)

    def copy_within(self, to: Memory, of: Memory, nbytes: int) -> None:
        """Copy from memory of the GPU to other memory of it."""
        self._copy(to.address, of.address, nbytes, _runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def mark(self) -> None:
        """Note that all that was asked for so far is a whole."""
        _done(_runtime().cudaEventRecord(self._mark, self._stream))

    def wait(self) -> None:
        """Wait until everything before the mark is done."""
        _done(_runtime().cudaEventSynchronize(self._mark))

    def captured(self, work: Callable[[], None]) -> Graph:
        """Return what would be done, without doing it.

        Args:
            work: asks for it on this stream.

        Raises:
            EngineError: something in it cannot be captured.
        """
        cuda = _runtime()
        # other threads may go on to take memory
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _done(cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            graph = cuda.cudaStreamEndCapture(self._stream)
        return Graph(_done(graph))

    def launch(self, graph: Graph) -> None:
        """Do what was captured."""
        _done(_runtime().cudaGraphLaunch(graph.runnable, self._stream))

    def _copy(self, to: int, of: int, nbytes: int, kind: Any) -> None:
        _done(_runtime().cudaMemcpyAsync(to, of, nbytes, kind, self._stream))


class Graph:
    """Work that was captured, to be launched as a whole."""

    def __init__(self, captured: Any) -> None:
        cuda = _runtime()
        try:
            self.runnable = _done(cuda.cudaGraphInstantiate(captured, 0))
        finally:
            cuda.cudaGraphDestroy(captured)
        weakref.finalize(self, cuda.cudaGraphExecDestroy, self.runnable)
