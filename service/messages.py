"""Every type that flows from the wire to the mosaic.

Decoders turn bytes into `Event`s; `join` makes `Frame`s of them, `batch` makes `Batch`es, the engine
makes `Tiles`. All are immutable values; arrays inside them are not written to after construction. Those that
every frame is made of are structs of msgspec, which are made in a tenth of a frozen dataclass's time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.framing import Framing

Counts = NDArray[np.unsignedinteger] | NDArray[np.float32]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Blob = bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class ScanStart:
    """A scan begins: all that is known of it before the first frame.

    Attributes:
        scan: its name, 1-128 of `[A-Za-z0-9._-]`.
        frame_shape: (H, W) pixels of each diffraction pattern.
        dtype: pixel type of the frames, little-endian.
        frames: how many frames are expected, None when the detector does not say.
        wavelength_m, distance_m, detector_pixel_m: far-field geometry, None where not told.
        object_pixel_m: pixel of the object, when told directly instead of by the geometry.
        saturation: count at which the detector saturates.
        mask: (H, W) bool, True where a pixel must not be used (gap, dead, hot), or None.
        positions_m: (N, 2) float64 planned probe centres y, x, or None when they come later.
        assumed: where no start message came, what was assumed instead; else empty.
        beam_px: row and column of the detector pixel that the direct beam hits, None where not told.
        framing: what was done to frames and positions at the door; None before.
        notes: (what about, a line) for the operator.
        has_end: whether the source will say when the scan is over.
    """

    scan: str
    frame_shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    frames: int | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None
    saturation: float | None = None
    mask: NDArray[np.bool_] | None = None
    positions_m: Float64 | None = None
    assumed: str = ""
    beam_px: tuple[float, float] | None = None
    framing: Framing | None = None
    notes: tuple[tuple[str, str], ...] = ()
    has_end: bool = True


class PackedPixels(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A (H, W) array of pixels as it lies in a message, compressed or not.

    Attributes:
        shape: (H, W).
        dtype: type of a pixel, in the byte order sent.
        encoding: one of `wire.pixels.ENCODINGS`.
        blob: the bytes.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    encoding: str
    blob: Blob


class Image(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One diffraction pattern as decoded, not yet joined with its position.

    Attributes:
        scan: the scan it belongs to.
        index: detector frame number within the scan, from 0.
        counts: (H, W) photons a pixel, zero frequency at the centre.
        received_ns: wall clock when the message came out of the socket, ns since the epoch.
        packed: the same pixels as they came; None where a message packs several frames as one.
    """

    scan: str
    index: int
    counts: Counts
    received_ns: int
    packed: PackedPixels | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Scan positions of consecutive frames.

    Attributes:
        scan: the scan they belong to; "" means the scan that is running (sources that have no names).
        first: frame number of the first row.
        positions_m: (n, 2) float64 probe centres y, x in the sample frame, metres.
    """

    scan: str
    first: int
    positions_m: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Rejected:
    """A frame that arrived and is known by number, but cannot be used.

    Attributes:
        scan, index: which frame.
        reason: the ledger's word for it, e.g. "undecodable".
        detail: one line for the operator.
    """

    scan: str
    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class ScanEnd:
    """The source says that the scan is over.

    Attributes:
        scan: which.
        frames: how many frames were sent, None when the source does not say.
    """

    scan: str
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class PositionsArmed:
    """A position source that names no scans was armed: its positions from now on are those of one scan."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the operator should know, and that costs no frame by itself.

    Attributes:
        about: a word for the matter; of each scan the first notice about it is kept.
        line: what was seen, and what to check.
    """

    about: str
    line: str


Event = ScanStart | Image | Positions | Rejected | ScanEnd | PositionsArmed | Notice


class Frame(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One diffraction pattern and the scan position it was recorded at.

    Attributes:
        index: detector frame number within the scan, from 0.
        counts: (H, W) photons a pixel, zero frequency at the centre.
        y_m, x_m: probe centre in the sample frame, metres, rows grow downward.
        received_ns: wall clock of arrival, ns since the epoch.
    """

    index: int
    counts: Counts
    y_m: float
    x_m: float
    received_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Frames of one scan that go through the engine together."""

    scan: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Predicted object patches, each centred on its scan position.

    Attributes:
        scan: which scan.
        indices: (n,) int64 frame numbers.
        positions_m: (n, 2) float64 probe centres y, x; the tile pixel [h // 2, w // 2] lies there.
        amplitude: (n, h, w) float32.
        cos, sin: (n, h, w) float32, on the unit circle.
        received_ns: (n,) int64 arrival of each frame.
        confidence: (n, h, w) float32 in [0, 1], expected cosine of the phase error; None: nothing is known.
        residual: (n,) float32 forward residual of each frame; None where the network does not tell it.
    """

    scan: str
    indices: NDArray[np.int64]
    positions_m: Float64
    amplitude: Float32
    cos: Float32
    sin: Float32
    received_ns: NDArray[np.int64]
    confidence: Float32 | None = None
    residual: Float32 | None = None

    def only(self, which: NDArray[np.bool_] | slice) -> Tiles:
        """Return some of them, in their order; all of them as they are."""
        if not isinstance(which, slice) and which.all():
            return self
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "scan"}
        return replace(self, **{name: array[which] for name, array in arrays.items() if array is not None})
