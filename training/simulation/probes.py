"""The probe of an instrument: all that simulated frames need to be those of this instrument."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.optics import centre_crop, spectrum
from model.scans import ScanFileError, open_scan

_HALF = 0.5


def read_probe(path: Path) -> NDArray[np.complex64]:
    """Return the modes (M, H, W) of a probe, square-root photons a pixel, the dominant one first.

    Args:
        path: a scan file whose reference reconstruction holds the probe, or a `.npy` with the modes
            (M, H, W) or the only one (H, W).

    Raises:
        ScanFileError: the file cannot be read, or holds no probe.
    """
    if path.suffix == ".npy":
        return _checked(path, load_array(path))
    with open_scan(path) as scan:
        reference = scan.reference()
    if reference is None:
        raise ScanFileError(f"{path}: no reference reconstruction in it, so no probe to work with")
    return reference.probe


def crop_far_field(probe: NDArray[np.complex64], edge_px: int) -> NDArray[np.complex64]:
    """Return the probe of an instrument that has only the middle of the detector.

    The light that falls beside it is lost. The object's pixel grows as the detector shrinks, by
    λz / (NΔ) (Rodenburg & Maiden, Springer Handbook of Microscopy, chap. 17 (2019), sec. 17.3), so the probe
    is as many times fewer pixels wide.

    Args:
        probe: (M, H, W) modes, square-root photons a pixel.
        edge_px: of the smaller detector.

    Returns:
        (M, edge_px, edge_px) modes, square-root photons a larger pixel.

    Raises:
        ValueError: the detector is not that large.
    """
    if not 0 < edge_px <= min(probe.shape[1:]):
        raise ValueError(f"cannot take {edge_px} pixels of a far field of {probe.shape[1:]}")
    kept = centre_crop(spectrum(probe), (edge_px, edge_px))
    waves = np.fft.ifft2(np.fft.ifftshift(kept, axes=(-2, -1)), norm="ortho")
    smaller: NDArray[np.complex64] = waves.astype(np.complex64)
    return smaller


def main_modes(probe: NDArray[np.complex64], modes: int | None) -> NDArray[np.complex64]:
    """Return the first modes of a probe (M, H, W), scaled to hold all of its light; None: all, as they are.

    Raises:
        ValueError: it has not that many.
    """
    if modes is None:
        return probe
    if not 0 < modes <= len(probe):
        raise ValueError(f"cannot take {modes} modes of a probe that has {len(probe)}")
    light, kept = (float(np.square(np.abs(some)).sum()) for some in (probe, probe[:modes]))
    return probe[:modes] * np.float32(math.sqrt(light / kept))


def diameter_px(probe: NDArray[np.complex64]) -> float:
    """Return the diameter of a disc as large as where there is at least half the greatest light, pixels.

    Of a round probe without speckle that is its full width at half maximum.

    Raises:
        ValueError: the probe is dark.
    """
    lit = probe_weight(probe, (probe.shape[1], probe.shape[2])) >= _HALF
    return 2 * math.sqrt(np.count_nonzero(lit) / math.pi)


def load_array(path: Path) -> NDArray[np.generic]:
    """Return what a `.npy` file holds.

    Raises:
        ScanFileError: the file cannot be read.
    """
    try:
        stored: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise ScanFileError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise ScanFileError(f"{path}: not a NumPy array file, or damaged") from error
    return stored


def _checked(path: Path, stored: NDArray[np.generic]) -> NDArray[np.complex64]:
    if stored.dtype.kind != "c" or stored.ndim not in (2, 3):
        raise ScanFileError(
            f"{path}: {stored.dtype} {stored.shape} is no probe: complex (M, H, W) or (H, W) is needed"
        )
    modes = stored.astype(np.complex64).reshape(-1, *stored.shape[-2:])
    if not (np.isfinite(modes).all() and modes.any()):
        raise ScanFileError(f"{path}: a probe without light, or with values that are no numbers")
    return modes
