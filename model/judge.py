"""How well a mosaic agrees with a reference object, and an object with the measured frames. NumPy only.

All images are complex transmissions (H, W). An object is known up to one global phase (O·e^{iα} gives the
same patterns), so compare after `align_global_phase`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.optics import shifted_probes, spectrum

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
T = TypeVar("T", bound=np.inexact[Any])

ONE_SEVENTH = 1 / 7


@dataclass(frozen=True, slots=True)
class Likeness:
    """An estimate against the truth, where the mask said, after one global phase was removed.

    Attributes:
        phase_rms_rad: root mean square of the circular phase error.
        phase_correlation: Pearson's, of the phases.
        amplitude_rms: root mean square amplitude error.
        amplitude_correlation: Pearson's, of the amplitudes.
        pixels: how many pixels were compared.
    """

    phase_rms_rad: float
    phase_correlation: float
    amplitude_rms: float
    amplitude_correlation: float
    pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class FourierRings:
    """Correlation of two images ring by ring in Fourier space, each array (rings,).

    Attributes:
        frequency: cycles a pixel at the middle of the ring, from 0 to 0.5.
        correlation: real part, −1 … 1.
        half_bit: the threshold of half a bit of information a Fourier pixel.
    """

    frequency: Real
    correlation: Real
    half_bit: Real

    def resolution_px(self, threshold: Real | float) -> float:
        """Return half the period, in pixels, of the finest detail that is above the threshold.

        Counted from the ring of the greatest margin outward: `coarsest_px` tells of the rings inside, where
        a mosaic of tiles that each lack their absolute phase may be wrong. It is 1 where the correlation
        never falls below: the pixel, not the data, is the limit. It is infinite where it never is above.

        Args:
            threshold: `half_bit` or `ONE_SEVENTH`.
        """
        margin = (self.correlation - threshold)[1:]
        best = int(np.argmax(margin))
        if margin[best] < 0:
            return float("inf")
        below = np.flatnonzero(margin[best:] < 0)
        return self._half_period_px(margin, best + int(below[0]) - 1) if below.size else 1.0

    def coarsest_px(self, threshold: Real | float) -> float:
        """Return half the period, in pixels, of the coarsest detail that is above the threshold.

        Counted from the ring of the greatest margin inward; infinite where all rings inside are above it,
        or none is.
        """
        margin = (self.correlation - threshold)[1:]
        best = int(np.argmax(margin))
        below = np.flatnonzero(margin[: best + 1] < 0)
        if not below.size or margin[best] < 0:
            return float("inf")
        return self._half_period_px(margin, int(below[-1]))

    def _half_period_px(self, margin: Real, ring: int) -> float:
        """Return where the margin crosses 0 between a ring and the next; ring 0 of `margin` is ring 1."""
        step = margin[ring] / (margin[ring] - margin[ring + 1])
        crossing = self.frequency[ring + 1] + step * (self.frequency[ring + 2] - self.frequency[ring + 1])
        return float(1 / (2 * crossing))

    def resolution_m(self, threshold: Real | float, object_pixel_m: float) -> float:
        """Return `resolution_px` in metres."""
        return self.resolution_px(threshold) * object_pixel_m


def circular_error(estimate_rad: Real, truth_rad: Real) -> Real:
    """Return the phase error arg e^{i(φ̂ − φ)} in [−π, π], so that −3.1 is 0.08 away from +3.1."""
    error: Real = np.angle(np.exp(1j * (estimate_rad - truth_rad)))
    return error


def align_global_phase(estimate: Complex, truth: Complex, where: Mask | None = None) -> Complex:
    """Return the estimate turned by the one angle α* = arg Σ O_true · conj(Ô), summed where the mask says."""
    overlap = np.sum(truth * estimate.conj(), where=True if where is None else where)
    turned: Complex = estimate * np.exp(1j * np.angle(overlap)).astype(estimate.dtype)
    return turned


def phase_correlation(estimate: Complex, truth: Complex) -> float:
    """Return Pearson's correlation of the phases, 0 where one of them is flat.

    Both are measured from the truth's mean direction, which puts the wrap as far away as it can be.
    """
    middle = np.conj(truth.sum())
    return _pearson(np.angle(estimate * middle), np.angle(truth * middle))


def amplitude_correlation(estimate: Complex, truth: Complex) -> float:
    """Return Pearson's correlation of the amplitudes, 0 where one of them is flat."""
    return _pearson(np.abs(estimate), np.abs(truth))


def phase_rms_rad(estimate: Complex, truth: Complex) -> float:
    """Return the root mean square of the circular phase error, radians."""
    return _rms(circular_error(np.angle(estimate), np.angle(truth)))


def amplitude_rms(estimate: Complex, truth: Complex) -> float:
    """Return the root mean square of the amplitude error."""
    return _rms(np.abs(estimate) - np.abs(truth))


def likeness(estimate: Complex, truth: Complex, where: Mask) -> Likeness:
    """Compare two objects on one grid where the mask says, after removing one global phase.

    Raises:
        ValueError: the mask leaves nothing to compare.
    """
    if not where.any():
        raise ValueError("no pixel to compare: does the mosaic lie on the reference?")
    truth = truth[where]
    estimate = align_global_phase(estimate[where], truth)
    return Likeness(
        phase_rms_rad=phase_rms_rad(estimate, truth),
        phase_correlation=phase_correlation(estimate, truth),
        amplitude_rms=amplitude_rms(estimate, truth),
        amplitude_correlation=amplitude_correlation(estimate, truth),
        pixels=int(truth.size),
    )


def fourier_ring_correlation(a: Complex, b: Complex, soft_edge: float = 0.5) -> FourierRings:
    """Return the Fourier ring correlation of two images on one grid, with their thresholds.

    van Heel & Schatz, J. Struct. Biol. 151, 250 (2005), eq. 2 and 17. The means are removed and the edges
    tapered, as a common step at the edge would count as likeness.

    Args:
        a: (H, W) complex, after `align_global_phase` with b.
        b: (H, W) complex.
        soft_edge: share of each side that the Tukey window tapers; 1 is Hann's window.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"images of {a.shape} and {b.shape} pixels have no common rings")
    window = np.outer(*(_tukey(side, soft_edge) for side in a.shape))
    spectrum_a, spectrum_b = (_windowed_spectrum(image, window) for image in (a, b))
    ring, rings = _rings(a.shape)
    cross, power_a, power_b, pixels = (
        np.bincount(ring, values.ravel())[:rings]
        for values in (
            (spectrum_a * spectrum_b.conj()).real,
            np.square(np.abs(spectrum_a)),
            np.square(np.abs(spectrum_b)),
            np.ones(a.shape),
        )
    )
    scale = np.sqrt(power_a * power_b)
    correlation = np.divide(cross, scale, out=np.zeros(rings), where=scale > 0)
    return FourierRings(np.arange(rings) / min(a.shape), correlation, _half_bit(pixels))


def position_origin_px(
    positions_m: Real, top_left_px: Real, tile_px: tuple[int, int], object_pixel_m: float
) -> tuple[NDArray[np.float64], float]:
    """Return where the position 0, 0 m lies on a reference's grid, by least squares, and the residual.

    With `Mosaic`'s convention the pixel (0, 0) of a mosaic lies there; the first pixel of its
    image lies at this plus the first two of its bounds.

    Args:
        positions_m: (n, 2) probe centres y, x.
        top_left_px: (n, 2) top-left (row, column) of the same frames' tiles in the reference.
        tile_px: (H, W) of those tiles; the probe's centre is at [H // 2, W // 2].
        object_pixel_m: pixel of the reference.

    Returns:
        (2,) row, column; and the root mean square residual in pixels, large where scales or axes differ.
    """
    offsets = top_left_px + np.array(tile_px) // 2 - positions_m / object_pixel_m
    origin: NDArray[np.float64] = offsets.mean(axis=0)
    return origin, _rms(np.hypot(*(offsets - origin).T))


def resample_to_reference(image: NDArray[T], origin_px: Real, reference_shape: tuple[int, int]) -> NDArray[T]:
    """Return an image on a reference's grid, by bilinear interpolation, 0 beyond its edges.

    Args:
        image: (h, w) real or complex; resample the coverage too to know where it counts.
        origin_px: (2,) row, column of the image's first pixel on the reference's grid, with fractions.
        reference_shape: (H, W).
    """
    start = -np.asarray(origin_px, np.float64)
    whole = np.floor(start).astype(int)
    down, right = (start - whole).astype(np.float32)
    top, left = whole.tolist()
    height, width = reference_shape
    part = _cut(image, top, left, (height + 1, width + 1))
    part = (1 - down) * part[:-1] + down * part[1:]
    resampled: NDArray[T] = ((1 - right) * part[:, :-1] + right * part[:, 1:]).astype(image.dtype)
    return resampled


def forward_residual(
    probe: Complex,
    transmission: Complex,
    counts: NDArray[Any],
    top_left_px: Real,
    batch: int = 16,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Return √(Σ(√I − √Î)² / ΣI): how far the object is from the measured frames; 0 is perfect.

    Î = Σ_m |F(P_m · O)|², unitary, zero frequency at [H // 2, W // 2]; the patch of the object is cut at
    whole pixels and the probe is shifted by the fraction that remains.

    Args:
        probe: (modes, H, W) complex, square-root photons a pixel.
        transmission: (Y, X) complex object.
        counts: (n, H, W) photons a pixel.
        top_left_px: (n, 2) top-left (row, column) of each frame's patch in the object.
        batch: frames taken at once.
        valid: (H, W) bool, the detector's pixels that count; None: all.

    Raises:
        ValueError: a patch reaches beyond the object.
    """
    counted: Any = True if valid is None else valid
    corners = np.round(top_left_px).astype(int)
    _refuse_beyond(corners, probe.shape[1:], transmission.shape)
    probe_spectrum = np.fft.fft2(probe)
    error = light = 0.0
    for start in range(0, len(counts), batch):
        some = slice(start, start + batch)
        probes = shifted_probes(probe_spectrum, top_left_px[some] - corners[some])
        patches = np.stack(list(_patches(transmission, corners[some], probe.shape[1:])))
        measured = counts[some].astype(np.float64)
        modelled = np.square(np.abs(spectrum(probes * patches[:, None]))).sum(axis=1)
        error += float(np.square(np.sqrt(measured) - np.sqrt(modelled)).sum(where=counted))
        light += float(measured.sum(where=counted))
    return float(np.sqrt(error / light))


def _patches(transmission: Complex, corners: NDArray[np.int_], shape: tuple[int, ...]) -> Iterator[Complex]:
    height, width = shape
    for y, x in corners.tolist():
        yield transmission[y : y + height, x : x + width]


def _refuse_beyond(corners: NDArray[np.int_], patch: tuple[int, ...], whole: tuple[int, ...]) -> None:
    if (corners < 0).any() or (corners + np.array(patch) > np.array(whole)).any():
        raise ValueError(f"patches of {patch} at these positions reach beyond the object of {whole}")


def _cut(image: NDArray[Any], top: int, left: int, shape: tuple[int, int]) -> NDArray[Any]:
    """Cut a window whose first pixel is (top, left) of the image; 0 beyond its edges."""
    window = np.zeros(shape, image.dtype)
    (y0, y1), (x0, x1) = (
        (max(start, 0), max(min(start + side, limit), start, 0))
        for start, side, limit in zip((top, left), shape, image.shape, strict=True)
    )
    part = image[y0:y1, x0:x1]
    window[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return window


def _windowed_spectrum(image: Complex, window: Real) -> Complex:
    mean = np.average(image, weights=window)
    windowed: Complex = np.fft.fft2((image - mean) * window)
    return windowed


def _tukey(side: int, soft_edge: float) -> NDArray[np.float64]:
    """Return a window of `side` pixels, flat in the middle, cosine over `soft_edge` / 2 at each end."""
    to_edge = np.minimum(np.arange(side) + 0.5, side - 0.5 - np.arange(side)) / side
    taper = np.clip(2 * to_edge / soft_edge, 0, 1) if soft_edge > 0 else np.ones(side)
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * taper)
    return window


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int_], int]:
    """Return each Fourier pixel's ring, flat, and the number of rings up to Nyquist's."""
    side = min(shape)
    frequency = np.hypot.outer(*(np.fft.fftfreq(n) for n in shape))
    return np.round(frequency * side).astype(int).ravel(), side // 2 + 1


def _half_bit(pixels: NDArray[Any]) -> Real:
    root = np.sqrt(pixels)
    threshold: Real = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return threshold


def _pearson(a: Real, b: Real) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a * a, dtype=np.float64) * np.sum(b * b, dtype=np.float64))
    return float(np.sum(a * b, dtype=np.float64) / scale) if scale > 0 else 0.0


def _rms(error: Real) -> float:
    return float(np.sqrt(np.mean(np.square(error), dtype=np.float64)))
