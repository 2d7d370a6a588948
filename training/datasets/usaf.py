"""The synthetic set of arXiv 2604.26664: a USAF chart under a measured probe, frame by frame.

The chart is AD_LTEM's design (MIT), the probe PtyNet's (MIT); both lie in `training/datasets/usaf_chart`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from training.datasets.labelled import LabelledSet, LabelUnits, cut_tiles

_FOLDER = Path(__file__).parent / "usaf_chart"
_PHASE_SPAN_RAD = np.pi / 3  # of 2π of the design's numbers
_BINNED = 4  # pixels of the 128² probe that make one of the 32²
Real = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class UsafRecipe:
    """What the set is like; the defaults are the paper's, noise-free.

    Attributes:
        noisy: Gaussian readout, then counting noise.
        turns: of phase that the object spans; 0: the paper's, which never wraps.
        own_gauge: each tile's phase is turned so that arg Σ|P|²O = 0, as no pattern tells its own angle.
        lines: of the raster, and places on each.
        step_px: of the raster.
        jitter_px: each corner is moved by up to this, whole pixels.
        readout_counts: standard deviation of the readout noise; the paper gives none, and its 79 % of dark
            pixels leave no room for more.
        seed: of positions and noise.
    """

    noisy: bool = False
    turns: float = 0.0
    own_gauge: bool = False
    lines: int = 61
    step_px: int = 8
    jitter_px: int = 1
    readout_counts: float = 0.02
    seed: int = 0


def usaf_set(name: str, recipe: UsafRecipe | None = None) -> LabelledSet:
    """Make the set, normalised as the released code does: intensities, amplitudes and phases in [0, 1].

    An object that wraps keeps its phase in radians, wrapped into (−π, π], as [0, 1] of it would mean nothing.
    """
    recipe = recipe or UsafRecipe()
    rng = np.random.default_rng(recipe.seed)
    amplitude, phase_rad = chart(recipe.turns)
    probe = binned_probe()
    raster, corners_px = raster_corners(recipe, amplitude.shape, probe.shape[-1], rng)
    edge = probe.shape[-1]
    seen = [cut_tiles(image, corners_px, edge) for image in (amplitude, phase_rad)]
    counts = diffraction(probe, seen[0], seen[1])
    if recipe.noisy:
        counts = noisy(counts, recipe.readout_counts, rng)
    photons = float(counts.max())
    units = label_units(amplitude, phase_rad, wraps=recipe.turns > 0)
    labels = _labels(amplitude, phase_rad, units)
    tiles = [cut_tiles(label, corners_px, edge) for label in labels]
    return LabelledSet(
        name=name,
        counts=counts / np.float32(photons),
        amplitude=tiles[0],
        phase_rad=_in_own_gauge(probe, seen[0], seen[1]) if recipe.own_gauge else tiles[1],
        corners_px=corners_px,
        raster=raster,
        probe=probe[None],
        truth_amplitude=labels[0],
        truth_phase_rad=labels[1],
        units=units,
        photons=photons,
    )


def chart(turns: float = 0.0) -> tuple[Real, Real]:
    """Return the object's amplitude in [0.5, 1] and phase, radians, each (512, 512).

    Args:
        turns: that the phase spans; 0: −(π/3)(φ + π)/2π of the design's φ, as the paper has it.
    """
    design, phase = (tifffile.imread(_FOLDER / f"design_{part}.tiff") for part in ("amp", "tphi"))
    amplitude = 0.5 + 0.5 * _to_unit(design)
    if turns:
        return amplitude, (2 * np.pi * turns * _to_unit(phase)).astype(np.float32)
    return amplitude, (-_PHASE_SPAN_RAD * (phase + np.pi) / (2 * np.pi)).astype(np.float32)


def binned_probe() -> NDArray[np.complex64]:
    """Return the probe (32, 32), square-root photons a pixel for a unitary Fourier transform."""
    fine = np.load(_FOLDER / "probe_128.npy", allow_pickle=False)
    edge = len(fine) // _BINNED
    # The set's own transform has no factor 1/N: the probe takes it.
    probe: NDArray[np.complex64] = edge * fine.reshape(edge, _BINNED, edge, _BINNED).mean(axis=(1, 3))
    return probe.astype(np.complex64)


def raster_corners(
    recipe: UsafRecipe, shape: tuple[int, ...], edge: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (N, 2) lines and places, and (N, 2) top-left corners of tiles that lie within the object."""
    raster = np.stack(np.meshgrid(*2 * [np.arange(recipe.lines)], indexing="ij"), axis=-1).reshape(-1, 2)
    jitter = rng.integers(-recipe.jitter_px, recipe.jitter_px, size=raster.shape, endpoint=True)
    corners = np.clip(raster * recipe.step_px + jitter, 0, np.array(shape) - edge)
    return raster, corners


def diffraction(probe: NDArray[np.complex64], amplitude: Real, phase_rad: Real) -> Real:
    """Return I = |fftshift(fft2(P·O))|² of tiles (N, h, w), photons a pixel."""
    exit_waves = probe * (amplitude * np.exp(1j * phase_rad))
    field = np.fft.fftshift(np.fft.fft2(exit_waves, norm="ortho"), axes=(-2, -1))
    return np.square(np.abs(field)).astype(np.float32)


def noisy(counts: Real, readout_counts: float, rng: np.random.Generator) -> Real:
    """Return counts after Gaussian readout, then counting noise; none is below 0."""
    read = counts + rng.normal(0.0, readout_counts, counts.shape)
    return rng.poisson(np.maximum(read, 0.0)).astype(np.float32)


def label_units(amplitude: Real, phase_rad: Real, *, wraps: bool) -> LabelUnits:
    """Return what labels in [0, 1] stand for; a phase that wraps stays in radians."""
    low, high = float(amplitude.min()), float(amplitude.max())
    if wraps:
        return LabelUnits(low, high - low)
    return LabelUnits(low, high - low, float(phase_rad.min()), float(np.ptp(phase_rad)))


def _labels(amplitude: Real, phase_rad: Real, units: LabelUnits) -> tuple[Real, Real]:
    numbers = (phase_rad - units.phase_offset_rad) / units.phase_scale
    return (
        ((amplitude - units.amplitude_offset) / units.amplitude_scale).astype(np.float32),
        np.angle(np.exp(1j * numbers)).astype(np.float32),
    )


def _in_own_gauge(probe: NDArray[np.complex64], amplitude: Real, phase_rad: Real) -> Real:
    """Turn each of the tiles (N, h, w) by its one unmeasured angle, and wrap into (−π, π]."""
    tiles = amplitude * np.exp(1j * phase_rad)
    lit = np.sum(np.square(np.abs(probe)) * tiles, axis=(1, 2), keepdims=True)
    turned: Real = np.angle(tiles * np.exp(-1j * np.angle(lit))).astype(np.float32)
    return turned


def _to_unit(image: Real) -> Real:
    unit: Real = ((image - image.min()) / np.ptp(image)).astype(np.float32)
    return unit
