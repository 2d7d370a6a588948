"""Exit wave and far field, as arrays and as the matrices that a network can carry.

Arrays are (row, column); the zero frequency is at index N // 2 of a diffraction pattern.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating[Any, Any]]
Scalar = TypeVar("Scalar", bound=np.generic)


def spectrum(field: Complex) -> Complex:
    """Return the unitary Fourier transform of (…, H, W), zero frequency at [H // 2, W // 2]."""
    transformed: Complex = np.fft.fftshift(np.fft.fft2(field, norm="ortho"), axes=(-2, -1))
    return transformed


def intensity(probe: Complex) -> NDArray[np.floating[Any]]:
    """Return Σ_m |P_m|² of modes (M, H, W): photons a pixel, (H, W)."""
    light: NDArray[np.floating[Any]] = np.square(np.abs(probe)).sum(axis=0)
    return light


def illumination(
    probe: Complex, top_left_px: NDArray[np.floating[Any]], object_shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return how much light a scan lays on each pixel of the object: Σ_j Σ_m |P_m|² at whole pixels.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        top_left_px: (n, 2) top-left (row, column) of each frame's patch in the object.
        object_shape: (Y, X), which holds all patches.

    Returns:
        (Y, X) photons.
    """
    light = intensity(probe).astype(np.float32)
    height, width = light.shape
    laid = np.zeros(object_shape, np.float32)
    for y, x in np.rint(top_left_px).astype(int).tolist():
        laid[y : y + height, x : x + width] += light
    return laid


def far_field(probe: Complex, tiles: Complex) -> NDArray[np.float32]:
    """Return the diffraction patterns of illuminated tiles: I = Σ_m |F(P_m·O)|², unitary.

    Rodenburg & Faulkner, Appl. Phys. Lett. 85, 4795 (2004), eq. 1; modes after Thibault & Menzel,
    Nature 494, 68 (2013).

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        tiles: (B, H, W) complex transmission.

    Returns:
        (B, H, W) expected photons a pixel, zero frequency at the centre.
    """
    exit_waves = probe[None] * tiles[:, None]
    patterns: NDArray[np.float32] = np.square(np.abs(spectrum(exit_waves))).sum(axis=1, dtype=np.float32)
    return patterns


def shifted_probes(probe_spectrum: Complex, shifts_px: NDArray[np.floating[Any]]) -> Complex:
    """Return the probe shifted down and right, by fractions of a pixel too.

    Args:
        probe_spectrum: (M, H, W) complex, `np.fft.fft2` of the modes.
        shifts_px: (n, 2) rows, columns.

    Returns:
        (n, M, H, W) complex.
    """
    height, width = probe_spectrum.shape[1:]
    down, right = np.asarray(shifts_px, np.float64).T
    rows = np.exp(-2j * np.pi * np.outer(down, np.fft.fftfreq(height)))
    columns = np.exp(-2j * np.pi * np.outer(right, np.fft.fftfreq(width)))
    ramps = (rows[:, :, None] * columns[:, None, :]).astype(probe_spectrum.dtype)
    shifted: Complex = np.fft.ifft2(probe_spectrum * ramps[:, None])
    return shifted


def dft_matrix(size: int, window: int) -> NDArray[np.complex128]:
    """Return the (size, window) matrix of the centred unitary DFT of a centred window.

    Row k is the frequency k - size // 2, column r the pixel size // 2 - window // 2 + r: with
    window = size, `matrix @ x` is `fftshift(fft(x, norm="ortho"))`. Its conjugate transpose goes back
    and keeps only the window.
    """
    frequency = np.arange(size) - size // 2
    pixel = np.arange(window) + size // 2 - window // 2
    matrix: NDArray[np.complex128] = np.exp(-2j * np.pi * np.outer(frequency, pixel) / size) / np.sqrt(size)
    return matrix


def centre_crop(array: NDArray[Scalar], shape: tuple[int, int]) -> NDArray[Scalar]:
    """Return a view of the (…, h, w) centre of an (…, H, W) array; pixel H // 2 goes to h // 2."""
    top, left = (n // 2 - m // 2 for n, m in zip(array.shape[-2:], shape, strict=True))
    return array[..., top : top + shape[0], left : left + shape[1]]


def tile_residual(
    probe: Complex, tile: Complex, counts: NDArray[Any], invalid: NDArray[np.bool_] | None = None
) -> float:
    """Return √(Σ(√I − √Î)² / ΣI) of one frame and the tile predicted for it; 0 is perfect.

    Beyond the tile, where little light falls, the object is taken as empty.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel.
        tile: (h, w) complex transmission, centred on the probe.
        counts: (H, W) photons a pixel.
        invalid: (H, W) bool, pixels that do not count.
    """
    whole = np.ones(probe.shape[1:], np.complex64)
    centre_crop(whole, (tile.shape[0], tile.shape[1]))[...] = tile
    valid = slice(None) if invalid is None else ~invalid
    expected, measured = far_field(probe, whole[None])[0][valid], counts[valid].astype(np.float64)
    difference = np.square(np.sqrt(measured) - np.sqrt(expected)).sum(dtype=np.float64)
    return float(np.sqrt(difference / max(measured.sum(), 1.0)))
