"""A scan file as an iterative engine takes it, and a reconstruction as a scan file that teaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from model.bundle import find_bundle, load_bundle
from model.geometry import to_pixels
from model.optics import illumination, intensity
from model.scans import Reference, ScanFile, ScanFileError, write_scan
from training.judging.iterative import IterativeResult
from training.judging.iterative_frames import Frames, frames_of
from training.simulation.probes import main_modes, read_probe

Complex = NDArray[np.complex64]

_RIM_PX = 4  # around the patches, so that corrected positions stay within the object
_FAINT = 0.05  # amplitude of a mode that is added, relative to the first


@dataclass(frozen=True, slots=True, eq=False)
class StartObject:
    """An object to start from.

    Attributes:
        transmission: (Y, X) complex64.
        origin_px: (row, column) of its first pixel, on the grid whose pixel (0, 0) lies at position 0.
        object_pixel_m: its pixel.
    """

    transmission: Complex
    origin_px: tuple[int, int]
    object_pixel_m: float


def read_start(result: Path) -> StartObject:
    """Return the object of a result file that `serve` wrote: the refined one where there is one.

    Raises:
        ScanFileError: it is no such file, or holds no mosaic.
    """
    try:
        with h5py.File(result) as file:
            entry = file["entry"]
            axes = [entry["phase"][axis][:] for axis in "yx"]
            refined = "refined_phase" in entry
            phase, amplitude = (
                entry[f"refined_{name}" if refined else name]["data"][:] for name in ("phase", "amplitude")
            )
    except (OSError, LookupError, TypeError) as error:
        raise ScanFileError(f"{result}: no result file of a scan: {error}") from error
    if min(map(len, axes)) < 2 or min(phase.shape) < 2:
        raise ScanFileError(f"{result}: the mosaic is empty")
    pixel_m = float(axes[0][1] - axes[0][0])
    dark = amplitude == 0  # where no tile lies
    transmission = np.where(dark, 1, amplitude * np.exp(1j * phase)).astype(np.complex64)
    first_row, first_column = (round(float(axis[0]) / pixel_m) for axis in axes)
    return StartObject(transmission, (first_row, first_column), pixel_m)


def probe_of(source: str, counts: NDArray[Any], mask: NDArray[np.bool_] | None, modes: int | None) -> Complex:
    """Return the modes (M, H, W) of a probe, as strong as the frames.

    The frames' mean photons set its power, as if the object took none of it: what an object takes from all
    frames alike no pattern tells.

    Args:
        source: a bundle, by folder or name; a scan file with a reference; or a `.npy`.
        counts: (N, H, W) of the frames.
        mask: (H, W), True where a pixel says nothing; None: all count.
        modes: how many; faint ones are added where the probe has fewer. None: as many as it has.

    Raises:
        ScanFileError, BundleError: there is no probe.
        ValueError: it does not fit the frames.
    """
    is_file = Path(source).is_file()
    probe = read_probe(Path(source)) if is_file else load_bundle(find_bundle(source)).probe
    if probe.shape[1:] != counts.shape[1:]:
        raise ValueError(f"{source}: a probe of {probe.shape[1:]} for frames of {counts.shape[1:]}")
    probe = with_modes(probe, modes)
    counted: Any = True if mask is None else ~mask
    photons = float(counts.sum(dtype=np.float64, where=counted)) / len(counts)
    return probe * np.float32(np.sqrt(photons / float(intensity(probe).sum(dtype=np.float64))))


def with_modes(probe: Complex, modes: int | None) -> Complex:
    """Return the first modes of a probe, or faint ones more: the first one's, tilted by random ramps."""
    if modes is None or modes <= len(probe):
        return main_modes(probe, modes)
    dice = np.random.default_rng(0)
    height, width = probe.shape[1:]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    more = [
        _FAINT * probe[0] * np.exp(1j * np.pi * (a * y + b * x))
        for a, b in dice.normal(size=(modes - len(probe), 2))
    ]
    return np.concatenate([probe, np.asarray(more, np.complex64)])


def scan_frames(
    scan: ScanFile, counts: NDArray[Any], probe: Complex, start: StartObject | None = None
) -> tuple[Frames, float]:
    """Return a scan's frames, its probe and an object to start from, and the object's pixel in metres.

    Args:
        scan: whose masked pixels say nothing.
        counts: (N, H, W) of all of its frames.
        probe: (M, H, W) modes.
        start: an object; None: an empty one.

    Raises:
        ScanFileError: the scan's geometry is not known, or the start has another pixel.
        ValueError: scan and probe do not fit each other.
    """
    pixel_m = scan.object_pixel_m or (start.object_pixel_m if start is not None else None)
    if pixel_m is None:
        raise ScanFileError(
            f"{scan.path}: the object's pixel is not known: are wavelength and distance in it?"
        )
    if start is not None and not np.isclose(start.object_pixel_m, pixel_m, rtol=1e-3):
        raise ScanFileError(
            f"{scan.path}: object pixels of {pixel_m:.4g} m, those of the start {start.object_pixel_m:.4g} m"
        )
    corners = to_pixels(scan.positions_m, pixel_m) - np.array(scan.frame_shape) // 2
    origin = np.floor(corners.min(axis=0)).astype(int) - _RIM_PX
    shape = np.ceil(corners.max(axis=0) - origin).astype(int) + np.array(scan.frame_shape) + _RIM_PX
    empty = np.ones(tuple(shape.tolist()), np.complex64)
    if start is not None:
        _lay(start, empty, origin)
    valid = None if scan.mask is None else ~scan.mask
    return frames_of(counts, corners - origin, probe, start=empty, valid=valid), pixel_m


def write_labelled(
    out: Path, scan: ScanFile, counts: NDArray[Any], found: IterativeResult, pixel_m: float, method: str
) -> None:
    """Write a scan with its reconstruction beside the frames: what `train` and `evaluate` read.

    Args:
        out: where to.
        scan: that was reconstructed.
        counts: (N, H, W) of all of its frames, as they are in its file.
        found: the reconstruction.
        pixel_m: of the object.
        method: how it was found, for people.

    Raises:
        ScanFileError: it cannot be written.
    """
    reference = Reference(
        object=found.object,
        probe=found.probe,
        coverage=illumination(found.probe, found.top_left_px, found.object.shape),
        positions_px=found.top_left_px,
        object_pixel_m=pixel_m,
    )
    write_scan(
        out,
        counts,
        scan.positions_m,
        wavelength_m=scan.wavelength_m,
        distance_m=scan.distance_m,
        detector_pixel_m=scan.detector_pixel_m,
        saturation=scan.saturation,
        mask=scan.mask,
        reference=reference,
        attributes={"source": scan.path.name, "method": method},
    )


def _lay(start: StartObject, whole: Complex, origin: NDArray[np.int_]) -> None:
    """Write what of a start lies within a whole object (Y, X) whose first pixel is at `origin`."""
    first = np.array(start.origin_px) - origin
    last = first + np.array(start.transmission.shape)
    low, high = np.maximum(first, 0), np.minimum(last, whole.shape)
    if (low >= high).any():
        raise ValueError("the start lies beside the scan: is it the result of another one?")
    into = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    of = tuple(slice(a, b) for a, b in zip((low - first).tolist(), (high - first).tolist(), strict=True))
    whole[into] = start.transmission[of]
