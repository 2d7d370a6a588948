"""The beam and the camera: complex tiles become counts, with all that differs from frame to frame.

One frame does not tell how strong the beam was: e times the exposure and an object √e times as strong give
the same counts. So exposure and flux go into the tiles (`expose`), and with them into what is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CameraRecipe:
    """How the beam and the camera differ from frame to frame.

    Errors of position are not among them: they move a tile against its neighbours, and one frame alone does
    not show it. What lies between two pixels of the raster is another object under the same probe.

    Attributes:
        flux_jitter: relative standard deviation of the incident flux.
        mode_jitter: relative standard deviation of each mode's amplitude.
        background_counts: greatest mean background a pixel.
        saturation: counts are cut here.
        exposure: least and greatest exposure, in units of the probe's; drawn log-uniformly.
        readout_counts: standard deviation of the readout noise; none behind a photon-counting detector.
        flawed_share: of frames that have a module gap and dead pixels.
        gap_px: least and greatest width of a gap, which crosses the whole frame.
        dead_share: greatest share of a flawed frame's pixels that are dead.
        invalid_counts: what stands in gaps and dead pixels: the mark of `NetworkConfig.invalid_counts`.
    """

    flux_jitter: float = 0.03
    mode_jitter: float = 0.05
    background_counts: float = 0.02
    saturation: float = 65534.0
    exposure: tuple[float, float] = (1.0, 1.0)
    readout_counts: float = 0.0
    flawed_share: float = 0.0
    gap_px: tuple[int, int] = (1, 6)
    dead_share: float = 0.005
    invalid_counts: float = 65535.0

    def __post_init__(self) -> None:
        """Raise ValueError for ranges out of order and shares that are none."""
        if not 0 < self.exposure[0] <= self.exposure[1]:
            raise ValueError(f"exposure {self.exposure}: least and greatest are needed, above 0")
        if not 0 < self.gap_px[0] <= self.gap_px[1]:
            raise ValueError(f"gaps of {self.gap_px} pixels: least and greatest are needed, above 0")
        if not (0 <= self.flawed_share <= 1 and 0 <= self.dead_share <= 1):
            raise ValueError("shares of flawed frames and of dead pixels lie between 0 and 1")
        if self.readout_counts < 0:
            raise ValueError(f"readout noise of {self.readout_counts} counts: 0 or more is needed")


VARIED = CameraRecipe(exposure=(0.25, 4.0), flawed_share=0.1)  # what a model for every day should have seen


def expose(tiles: Tensor, camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return tiles (N, H, W) as strong as each frame's exposure and flux make them look: √(exposure·flux)·O.

    Args:
        tiles: complex transmission.
        camera: exposure and flux.
        noise: where all randomness comes from, on the tiles' device.
    """
    low, high = camera.exposure
    exposure = _uniform((len(tiles), 1, 1), noise) * math.log(high / low) + math.log(low)
    flux = camera.flux_jitter * _normal((len(tiles), 1, 1), noise)
    return tiles * torch.exp((exposure + flux) / 2)


def photograph(probe: Tensor, tiles: Tensor, camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return noisy counts (N, H, W): Poisson of Σ_m |F(P_m·O)|² and a little background.

    Readout noise comes on top, what is above saturation is cut, and gaps and dead pixels are marked last.

    Args:
        probe: (M, H, W) complex modes, square-root photons a pixel. Only |P·O| is measured: a probe k times
            stronger gives k² the counts, and the same counts as an object k times stronger.
        tiles: (N, H, W) complex, exposed, on the probe's device.
        camera: modes' shares, background, noise and flaws.
        noise: where all randomness comes from, on the same device.
    """
    pattern = _pattern(probe, tiles, _shares((len(probe), len(tiles), 1, 1), camera, noise))
    background = camera.background_counts * _uniform((len(tiles), 1, 1), noise)
    counts = torch.poisson(pattern + background, generator=noise)
    if camera.readout_counts > 0:
        readout = _normal(counts.shape, noise)
        counts = torch.round(counts + camera.readout_counts * readout).clamp_min(0)
    return mark_flaws(counts.clamp_max(camera.saturation), camera, noise)


def mark_flaws(counts: Tensor, camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return counts (N, H, W) with a gap and dead pixels marked in some frames, the others as they are."""
    (flawed,) = torch.nonzero(_uniform((len(counts),), noise) < camera.flawed_share, as_tuple=True)
    some = counts[flawed]
    dead = _uniform(some.shape, noise) < camera.dead_share * _uniform((len(some), 1, 1), noise)
    invalid = _gaps(some, camera, noise) | dead
    return counts.index_copy(0, flawed, some.masked_fill(invalid, camera.invalid_counts))


def _shares(shape: tuple[int, ...], camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return how strong each mode is in each frame, (M, N, 1, 1), relative to the probe's."""
    return torch.exp(2 * camera.mode_jitter * _normal(shape, noise))


def _pattern(probe: Tensor, tiles: Tensor, shares: Tensor) -> Tensor:
    """Return the expected photons (N, H, W), zero frequency at [H // 2, W // 2].

    Mode by mode, which is faster than all at once: the waves of one mode stay in the cache.
    """
    pattern = torch.zeros(tiles.shape, device=tiles.device)
    for mode, share in zip(probe, shares, strict=True):
        wave = torch.fft.fft2(mode * tiles, norm="ortho")
        pattern += share * (wave.real.square() + wave.imag.square())
    centred: Tensor = torch.fft.fftshift(pattern, dim=(-2, -1))
    return centred


def _gaps(counts: Tensor, camera: CameraRecipe, noise: torch.Generator) -> Tensor:
    """Return one band a frame, (N, H, W) bool: at a random place, across the rows or the columns."""
    height, width = counts.shape[-2:]
    narrow, wide = camera.gap_px
    band_px, place, direction = (_uniform((len(counts), 1, 1), noise) for _ in range(3))
    row, column = (torch.arange(n, device=noise.device) for n in (height, width))
    past = torch.where(
        direction < 0.5, row[:, None] - torch.floor(place * height), column - torch.floor(place * width)
    )
    return (past >= 0) & (past < narrow + torch.floor((wide - narrow + 1) * band_px))


def _uniform(shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=noise, device=noise.device)


def _normal(shape: tuple[int, ...], noise: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=noise, device=noise.device)
