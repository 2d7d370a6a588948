"""What every scan file gives, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ScanFileError(Exception):
    """A scan file is missing, unreadable or does not hold what it must."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """An iterative reconstruction of a scan's frames, to judge a network's mosaic against.

    Attributes:
        object: (Y, X) complex64 transmission.
        probe: (modes, H, W) complex64, square-root photons a pixel, the dominant mode first.
        coverage: (Y, X) float32, how much light fell there.
        positions_px: (N, 2) float64 top-left corner y, x of each frame's tile in `object`.
        object_pixel_m: pixel of `object`.
        others: further reconstructions of the same frames on the same grid, (Y, X) complex64, by name.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    positions_px: NDArray[np.float64]
    object_pixel_m: float
    others: Mapping[str, NDArray[np.complex64]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ScanFile:
    """An open scan file; frames are read when asked for. Use as a context manager, or `close` it.

    Attributes:
        path: where it lies.
        positions_m: (N, 2) float64 probe centres y, x, metres, rows grow downward.
        frame_shape: (H, W) of each diffraction pattern.
        dtype: pixel type of the frames.
        wavelength_m, distance_m, detector_pixel_m: far-field geometry, None where not told.
        object_pixel_m: the reference's, else λz/(NΔ), None where neither is known.
        saturation: count at which the detector saturates, None where not told.
        mask: (H, W) bool, True where a pixel must not be used, or None.
        frame_numbers: (N,) int64 as the detector counted, of a recording that lacks some; None: 0, 1, 2 …
        beam_px: row and column of the detector pixel that the direct beam hits, None where not told.
    """

    path: Path
    positions_m: NDArray[np.float64]
    frame_shape: tuple[int, int]
    dtype: np.dtype[Any]
    wavelength_m: float | None
    distance_m: float | None
    detector_pixel_m: float | None
    object_pixel_m: float | None
    saturation: float | None
    mask: NDArray[np.bool_] | None
    _read_frames: Callable[[slice], NDArray[Any]] = field(repr=False)
    _read_reference: Callable[[], Reference | None] = field(repr=False)
    _opened: ExitStack = field(repr=False)
    frame_numbers: NDArray[np.int64] | None = None
    beam_px: tuple[float, float] | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions_m)

    def frames(self, which: slice = slice(None)) -> NDArray[Any]:
        """Return the (n, H, W) diffraction patterns of a slice, read now; zero frequency at the centre.

        Raises:
            ScanFileError: their compression is not available, or the file is damaged.
        """
        with readable(self.path):
            return self._read_frames(which)

    def reference(self) -> Reference | None:
        """Return the file's reference reconstruction, read now; None where it has none.

        Raises:
            ScanFileError: it is there, but not complete.
        """
        with readable(self.path):
            return self._read_reference()

    def close(self) -> None:
        """Close the file; frames cannot be read any more."""
        self._opened.close()

    def __enter__(self) -> ScanFile:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what h5py and NumPy raise for a damaged or odd file into one line.

    Raises:
        ScanFileError: names the file and what is wrong.
    """
    try:
        yield
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        told = " ".join(str(error).split())
        raise ScanFileError(f"{path}: cannot be read: {told}") from error
