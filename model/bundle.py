"""What a deployable model says of itself: read, verify, write. No torch.

A bundle is a folder: `model.onnx` takes raw counts (N, 1, H, W) and holds its own scaling; `model.json`
describes it; `probe.npy` is the probe it was fitted to.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

BUNDLES = Path(__file__).with_name("bundles")  # those that are shipped
MAX_DESCRIPTION_BYTES = 1 << 20
MAX_PROBE_BYTES = 256 << 20


_NOT_AN_ARRAY = (OSError, ValueError, OverflowError, SyntaxError, TokenError)  # numpy's, of a forged header

Pixels = Annotated[int, Meta(gt=0)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PlainFileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")]  # it stays in the folder


class BundleError(Exception):
    """A bundle cannot be used; the message says what to check."""


def _refuse_falling(name: str, numbers: tuple[float, ...]) -> None:
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(f"the numbers of {name} must be finite and positive, not {numbers}")
    if any(a > b for a, b in pairwise(numbers)):
        raise ValueError(f"the numbers of {name} must not fall: {numbers}")


class ProbeDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which probe the model was fitted to: (modes, H, W) complex64, square-root photons a pixel."""

    sha256: Sha256
    modes: Pixels
    file: PlainFileName = "probe.npy"


class TrustDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When the model is to be believed, from simulated frames that it never learned from.

    Attributes:
        residual: median and 99th percentile of the frames' forward residual.
        error_rad: pairs (forward residual, root mean square phase error of such frames), both rising.
        frame_counts: 1st and 99th percentile of a frame's photons.

    Raises:
        ValueError: a number is not finite or not positive, or they do not rise.
    """

    residual: tuple[float, float]
    error_rad: tuple[tuple[float, float], ...]
    frame_counts: tuple[float, float]

    def __post_init__(self) -> None:
        residuals, errors_rad = zip(*self.error_rad, strict=True) if self.error_rad else ((), ())
        if len(residuals) < 2 or any(a >= b for a, b in pairwise(residuals)):
            raise ValueError("the residuals of error_rad must rise, and be two at least")
        for name in ("residual", "frame_counts"):
            _refuse_falling(name, getattr(self, name))
        _refuse_falling("error_rad", errors_rad)


class CoarserGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same network with convolutions of fewer bits, for engines that are asked for it.

    Attributes:
        onnx_sha256: hash of its file.
        scan: measured frames of which it was compared with the float32 network on.
        frames: how many.
        convolutions, of: that have fewer bits, of how many.
        phase_rms_rad, amplitude_rms: change there, root mean square over all pixels of the tiles.
    """

    onnx_sha256: Sha256
    scan: str
    frames: Pixels
    convolutions: int
    of: int
    phase_rms_rad: float
    amplitude_rms: float


class Int8Description(CoarserGraph, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same network with 8-bit convolutions, of which there is one at least."""

    convolutions: Pixels
    of: Pixels
    file: PlainFileName = "model-int8.onnx"


class GpuDescription(CoarserGraph, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same network for a GPU: counts come as bytes (N, 1, H, W, itemsize), convolutions in float16.

    Attributes:
        precision: of the convolutions; everything else is in float32.
    """

    precision: Literal["float16"] = "float16"
    file: PlainFileName = "model-gpu.onnx"


class BundleDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of `model.json`.

    Attributes:
        format: version of this description.
        name, kind: of the model.
        onnx_sha256: hash of `model.onnx`.
        frame_shape, tile_shape: (H, W) in and (h, w) out, pixels; the tile is centred on the probe.
        counts_dtype: of the graph's input.
        invalid_counts: a count at or above this marks a gap, dead or hot pixel.
        detector_saturation: greatest count that the model was shown.
        clip_level, percentile, percentile_counts, gains: of SADGS.
        object_pixel_m: pixel of the tiles, metres.
        output_ranges: of amplitude, cos and sin.
        probe: what the model was fitted to.
        parameters: how many numbers were learned.
        training: command, seed and data recipe.
        figures: what it reached, on what.
        trust: when it is to be believed; None: nobody has found out.
        int8: the network with 8-bit convolutions; None: there is none.
        gpu: the network that takes bytes and has 16-bit convolutions; None: there is none.
    """

    name: str
    kind: str
    onnx_sha256: Sha256
    frame_shape: tuple[Pixels, Pixels]
    tile_shape: tuple[Pixels, Pixels]
    counts_dtype: str
    invalid_counts: float
    detector_saturation: float
    clip_level: float
    percentile: float
    percentile_counts: float
    gains: tuple[float, ...]
    object_pixel_m: float
    output_ranges: dict[str, tuple[float, float]]
    probe: ProbeDescription
    parameters: int
    training: dict[str, Any]
    figures: dict[str, Any]
    trust: TrustDescription | None = None
    int8: Int8Description | None = None
    gpu: GpuDescription | None = None
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle: its files are what its description says.

    Attributes:
        path: the folder.
        description: of the model.
        probe: (M, H, W) complex64, square-root photons a pixel.
    """

    path: Path
    description: BundleDescription
    probe: NDArray[np.complex64]

    @property
    def onnx(self) -> Path:
        """The network."""
        return self.path / "model.onnx"

    @property
    def int8_onnx(self) -> Path | None:
        """The network with 8-bit convolutions, None where there is none."""
        int8 = self.description.int8
        return None if int8 is None else self.path / int8.file

    @property
    def gpu_onnx(self) -> Path | None:
        """The network for a GPU, None where there is none."""
        gpu = self.description.gpu
        return None if gpu is None else self.path / gpu.file

    @property
    def files(self) -> list[str]:
        """Names of all that belongs to it."""
        told = self.description
        others = [other.file for other in (told.int8, told.gpu) if other is not None]
        return ["model.json", "model.onnx", told.probe.file, *others]


def load_bundle(path: Path | str) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: a file is missing, damaged or not the one that the description names.
    """
    path = Path(path)
    description = _read_description(path / "model.json")
    _refuse_another(path / "model.onnx", description.onnx_sha256)
    for other in (description.int8, description.gpu):
        if other is not None:
            _refuse_another(path / other.file, other.onnx_sha256)
    return Bundle(path, description, _read_probe(path, description))


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle given by path, or by the name of a shipped one.

    Raises:
        BundleError: there is neither.
    """
    for candidate in (Path(name), BUNDLES / name):
        with suppress(OSError):  # a name longer than the system takes
            if (candidate / "model.json").is_file():
                return candidate
    shipped = ", ".join(sorted(p.parent.name for p in BUNDLES.glob("*/model.json"))) or "none"
    raise BundleError(f"no bundle at {name!r}: give a folder that holds model.json, or one of: {shipped}")


def write_description(path: Path, description: BundleDescription) -> None:
    """Write `model.json` into a bundle's folder, for people to read too."""
    text = msgspec.json.format(msgspec.json.encode(description), indent=2)
    (path / "model.json").write_bytes(text + b"\n")


def file_sha256(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error


def _refuse_another(onnx: Path, sha256: str) -> None:
    found = file_sha256(onnx)
    if found != sha256:
        raise BundleError(
            f"{onnx} has sha256 {found[:12]}…, its description says {sha256[:12]}…: was it copied whole?"
        )


def _read_description(path: Path) -> BundleDescription:
    _refuse_larger(path, MAX_DESCRIPTION_BYTES)
    try:
        return msgspec.json.decode(path.read_bytes(), type=BundleDescription)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BundleError(f"{path} is not a bundle's description: {error}") from error


def _read_probe(path: Path, description: BundleDescription) -> NDArray[np.complex64]:
    file = path / description.probe.file
    _refuse_larger(file, MAX_PROBE_BYTES)
    if file_sha256(file) != description.probe.sha256:
        raise BundleError(f"{file} is not the probe that the description names: was it copied whole?")
    try:
        # mapped, so that a forged shape is refused before memory is taken for it
        probe = np.lib.format.open_memmap(file, mode="r")
    except _NOT_AN_ARRAY as error:
        raise BundleError(f"{file} is not an array: {error}") from error
    shape = (description.probe.modes, *description.frame_shape)
    if probe.shape != shape or probe.dtype != np.complex64:
        raise BundleError(f"{file} holds {probe.dtype} {probe.shape}, the description says complex64 {shape}")
    return np.array(probe, dtype=np.complex64)


def _refuse_larger(path: Path, most_bytes: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from error
    if size > most_bytes:
        raise BundleError(f"{path} has {size} bytes, more than {most_bytes}: is it part of a bundle?")
