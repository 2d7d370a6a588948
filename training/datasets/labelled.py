"""Measured or simulated frames with the object tile of each: what supervised networks learn from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelUnits:
    """What the labels' numbers mean: physical = offset + scale · label; the defaults say: the same.

    The released code of arXiv 2604.26664 normalises amplitude and phase to [0, 1] and learns those numbers.
    """

    amplitude_offset: float = 0.0
    amplitude_scale: float = 1.0
    phase_offset_rad: float = 0.0
    phase_scale: float = 1.0

    def transmission(
        self, amplitude: NDArray[np.float32], phase_rad: NDArray[np.float32]
    ) -> NDArray[np.complex64]:
        """Return the complex transmission that labels of any one shape stand for."""
        modulus = self.amplitude_offset + self.amplitude_scale * amplitude
        angle = self.phase_offset_rad + self.phase_scale * phase_rad
        transmission: NDArray[np.complex64] = (modulus * np.exp(1j * angle)).astype(np.complex64)
        return transmission

    def labels(self, transmission: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Undo `transmission`: amplitude and phase in the labels' numbers, the phase from (−π, π]."""
        amplitude = (np.abs(transmission) - self.amplitude_offset) / self.amplitude_scale
        phase = (np.angle(transmission) - self.phase_offset_rad) / self.phase_scale
        return amplitude.astype(np.float32), phase.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Frames of one raster scan, each with its true or reconstructed tile.

    Attributes:
        name: of the set, for tables.
        counts: (N, H, W) float32 intensities, zero frequency at [H // 2, W // 2].
        amplitude: (N, h, w) float32 of the tiles.
        phase_rad: (N, h, w) float32 of the tiles, the numbers that the labels hold (not wrapped again).
        corners_px: (N, 2) top-left (row, column) of each tile in the object, whole pixels.
        raster: (N, 2) scan line and place within it, from 0.
        directions: (2, 2) unit vectors y, x along which the numbers of lines and of places grow.
        probe: (M, H, W) complex64 modes, None where it is not known.
        truth_amplitude, truth_phase_rad: (Y, X) float32 labels that the tiles were cut from; None where
            only tiles are known.
        units: what the labels' numbers mean.
        photons: of an intensity of 1; 1 where `counts` are photons.
        object_pixel_m: metres, None where it is not known.
        first_test_line: of the split by rows as the set was published; None: the last fifth of the lines.
    """

    name: str
    counts: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    phase_rad: NDArray[np.float32]
    corners_px: NDArray[np.int64]
    raster: NDArray[np.int64]
    probe: NDArray[np.complex64] | None = None
    truth_amplitude: NDArray[np.float32] | None = None
    truth_phase_rad: NDArray[np.float32] | None = None
    units: LabelUnits = LabelUnits()
    photons: float = 1.0
    object_pixel_m: float | None = None
    first_test_line: int | None = None
    directions: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))

    def __post_init__(self) -> None:
        """Raise ValueError where the parts do not fit."""
        frames = len(self.counts)
        if self.amplitude.shape != self.phase_rad.shape or len(self.amplitude) != frames:
            raise ValueError(
                f"{self.name}: {frames} frames, amplitudes {self.amplitude.shape} and phases "
                f"{self.phase_rad.shape} do not fit"
            )
        if self.corners_px.shape != (frames, 2) or self.raster.shape != (frames, 2):
            raise ValueError(f"{self.name}: corners and raster places must be ({frames}, 2)")

    def in_photons(self) -> LabelledSet:
        """Return the same set with its intensities as photons a pixel."""
        if self.photons == 1:
            return self  # no second copy of the frames
        return replace(self, counts=self.counts * np.float32(self.photons), photons=1.0)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.counts)

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(H, W) of the diffraction patterns."""
        return (self.counts.shape[1], self.counts.shape[2])

    @property
    def tile_shape(self) -> tuple[int, int]:
        """(h, w) of the tiles."""
        return (self.amplitude.shape[1], self.amplitude.shape[2])


def cut_tiles(image: NDArray[np.float32], corners_px: NDArray[np.int64], edge: int) -> NDArray[np.float32]:
    """Return the (N, edge, edge) tiles of an image at top-left corners (N, 2)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (edge, edge))
    return np.ascontiguousarray(windows[corners_px[:, 0], corners_px[:, 1]])
