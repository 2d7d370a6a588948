"""The probe-informed network: it is given the physics that a convolution would have to learn.

A diffraction pattern and an object tile live in different spaces. With a known probe, one step of the
projection engines carries the measurement into the object's plane; a small U-Net does the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.network import NetworkConfig, Prediction, predict, upsample
from model.optics import Complex, centre_crop, dft_matrix, intensity, spectrum
from model.sadgs import Sadgs
from model.tilt import TiltMatch

_FAINTEST = 1e-3  # photons: added where a pixel may have none
_STRENGTHS = (1e-3, 1e3)  # a frame beyond them is not of this instrument; the graph stays finite
PROBE_EPSILON = 0.05  # of the strongest illumination: where there is less light the division is damped


class FarField(nn.Module):
    """The unitary Fourier transform between a centred window and the detector, as matrix products.

    Every engine runs matrix products; TensorRT has no DFT operator. Complex numbers are pairs of planes
    in the third axis from the end: (…, 2, rows, columns). The window's side is transposed, never the
    detector's, which is larger: so the columns go first to the detector, and last on the way back.
    """

    rows: Tensor
    columns: Tensor
    rows_back: Tensor
    columns_back: Tensor

    def __init__(self, frame_shape: tuple[int, int], window: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (dft_matrix(n, w) for n, w in zip(frame_shape, window, strict=True))
        self.register_buffer("rows", _left_block(rows), persistent=False)
        self.register_buffer("columns", _right_block(columns.T), persistent=False)
        self.register_buffer("rows_back", _left_block(rows.conj().T), persistent=False)
        self.register_buffer("columns_back", _right_block(columns.conj()), persistent=False)

    def forward(self, field: Tensor) -> Tensor:
        """Propagate (N, 2, h, w) to the detector: (N, 2, H, W)."""
        with _single_precision(field):
            return _by_rows(self.rows, _by_columns(field.float(), self.columns))

    def back(self, field: Tensor) -> Tensor:
        """Propagate (N, 2, H, W) back to the window: (N, 2, h, w)."""
        with _single_precision(field):
            return _by_columns(_by_rows(self.rows_back, field.float()), self.columns_back)


def _single_precision(field: Tensor) -> torch.autocast:
    """Keep autocast out: bfloat16's 8 bits are too few for counts."""
    return torch.autocast(field.device.type, enabled=False)


def _by_rows(left: Tensor, field: Tensor) -> Tensor:
    """Return L·X for complex X as planes (N, 2, h, w); the real block L (2H, 2h) holds the products."""
    n, _, h, w = field.shape
    return torch.matmul(left, field.reshape(n, 2 * h, w)).reshape(n, 2, -1, w)


def _by_columns(field: Tensor, right: Tensor) -> Tensor:
    """Return X·R for complex X as planes (N, 2, h, w); the real block R (2w, 2W) holds the products."""
    n, _, h, w = field.shape
    lines = torch.matmul(field.transpose(1, 2).reshape(n, h, 2 * w), right)
    return lines.reshape(n, h, 2, -1).transpose(1, 2)


def _left_block(matrix: NDArray[np.complex128]) -> Tensor:
    """Return the real (2a, 2b) block that multiplies stacked (re; im) rows like a complex (a, b) matrix."""
    block = np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
    return torch.tensor(block, dtype=torch.float32)


def _right_block(matrix: NDArray[np.complex128]) -> Tensor:
    """Return the real block for (re, im) columns multiplied from the right."""
    block = np.block([[matrix.real, matrix.imag], [-matrix.imag, matrix.real]])
    return torch.tensor(block, dtype=torch.float32)


def _planes(field: Complex) -> Tensor:
    """Return complex numbers as planes (…, 2, h, w)."""
    return torch.tensor(np.stack([field.real, field.imag], axis=-3), dtype=torch.float32)


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply complex numbers held as planes (…, 2, h, w)."""
    ar, ai = a.unbind(-3)
    br, bi = b.unbind(-3)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], dim=-3)


class Illumination(nn.Module):
    """What the probe alone says: modes in the window, their far field, the empty beam's pattern.

    Shapes: M modes, (h, w) the tile's window, (H, W) the detector.
    """

    window_modes: Tensor  # (M, 2, h, w) P_m
    backward: Tensor  # (M, 2, h, w) P_m* / (Σ|P|² + ε)
    empty: Tensor  # (1, 1, H, W) Σ_m |F P_m|²
    direction: Tensor  # (M, 2, H, W) F P_m / √empty
    outside: Tensor  # (M, 2, H, W) far field of the light that falls outside the window
    maps: Tensor  # (1, 2M + 1, h, w) what the convolutions are told of the probe

    def __init__(self, probe: NDArray[np.complex64], tile_shape: tuple[int, int]) -> None:
        super().__init__()
        modes = probe.astype(np.complex128)
        window = centre_crop(modes, tile_shape)
        inside = np.zeros_like(modes)
        centre_crop(inside, tile_shape)[...] = window
        field, light = spectrum(modes), intensity(window)
        if not 0 < light.max() < np.inf:
            raise ValueError(
                f"the probe's greatest intensity within the tile is {light.max()}: is it the right file?"
            )
        empty = intensity(field)
        buffers = {
            "window_modes": _planes(window),
            "backward": _planes(window.conj() / (light + PROBE_EPSILON * light.max())),
            "empty": torch.tensor(empty[None, None], dtype=torch.float32),
            "direction": _planes(field / np.sqrt(empty + 1e-6 * empty.max())),
            "outside": _planes(spectrum(modes - inside)),
            "maps": _probe_maps(window, light),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)


def _probe_maps(window: Complex, light: NDArray[np.floating[Any]]) -> Tensor:
    """Return real and imaginary parts of the modes and the illumination, each at most 1."""
    scale = np.sqrt(light.max())
    stack = np.concatenate([window.real / scale, window.imag / scale, light[None] / light.max()])
    return torch.tensor(stack[None], dtype=torch.float32)


class Block(nn.Module):
    """Two 3x3 convolutions with a residual path, at one resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) → the same."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class UNet(nn.Module):
    """A small residual U-Net that works at half, quarter and eighth resolution of the tile.

    A strided stem and a pixel shuffle keep full-resolution convolutions, the dearest, out.
    """

    def __init__(self, inputs: int, width: int, spread: bool) -> None:
        """Build it.

        Args:
            inputs: planes in, the maps of the probe among them.
            width: channels at half resolution.
            spread: a plane tells how sure it is of the phase. It only listens: no gradient of it reaches
                what the others learn, which measured better than features that serve both.
        """
        super().__init__()
        middle, deep = 2 * width, 3 * width
        self.stem = nn.Conv2d(inputs, width, 4, stride=2, padding=1)
        self.encode = Block(width)
        self.down = nn.Conv2d(width, middle, 3, stride=2, padding=1)
        self.encode_middle = Block(middle)
        self.down_deep = nn.Conv2d(middle, deep, 3, stride=2, padding=1)
        self.encode_deep = Block(deep)
        self.up_middle = nn.Conv2d(deep, middle, 1)
        self.decode_middle = Block(middle)
        self.up = nn.Conv2d(middle, width, 1)
        self.decode = Block(width)
        self.head = nn.Conv2d(width, 4 * 3, 3, padding=1)
        self.sure = nn.Conv2d(width, 4, 3, padding=1) if spread else None

    def forward(self, planes: Tensor, maps: Tensor) -> Tensor:
        """Return three planes as pixels to be shuffled, (N, 12, h/2, w/2); with the spread four.

        Args:
            planes: (N, C, h, w) of the frames; h and w multiples of 8.
            maps: (N, inputs - C, h, w) of the probe.
        """
        fine = self.encode(functional.relu(_of_both(self.stem, planes, maps)))
        middle = self.encode_middle(functional.relu(self.down(fine)))
        deep = self.encode_deep(functional.relu(self.down_deep(middle)))
        middle = self.decode_middle(middle + upsample(self.up_middle(deep)))
        fine = self.decode(fine + upsample(self.up(middle)))
        heads: Tensor = self.head(fine)
        if self.sure is not None:
            heads = torch.cat([heads, self.sure(fine.detach())], dim=1)
        return heads


def _of_both(stem: nn.Conv2d, planes: Tensor, maps: Tensor) -> Tensor:
    """Return what a convolution says of planes (N, C, h, w) and maps (N, D, h, w) side by side.

    Each goes through its part of the weights: engines fill channels up to 16, so that 12 and 8 take less than
    20, and nothing is copied together.
    """
    channels = planes.shape[1]
    of_planes, of_maps = stem.weight[:, :channels], stem.weight[:, channels:]
    from_planes = functional.conv2d(planes, of_planes, stem.bias, stem.stride, stem.padding)
    return from_planes + functional.conv2d(maps, of_maps, None, stem.stride, stem.padding)


class _Misfit(NamedTuple):
    """Frames beside what their tiles would give.

    Attributes:
        waves: (N, M, 2, H, W) far fields of the modes.
        measured: (N, 1, H, W) √I.
        error: (N, 1, H, W) √I − √Î.
        valid: (N, 1, H, W) bool, pixels that count.
    """

    waves: Tensor
    measured: Tensor
    error: Tensor
    valid: Tensor

    def residual(self, change: Tensor | float = 0.0) -> Tensor:
        """Return √((Σ(√I − √Î)² + change) / ΣI), (N,)."""
        error, light = (
            torch.where(self.valid, torch.square(root), 0.0).sum(dim=(1, 2, 3))
            for root in (self.error, self.measured)
        )
        return torch.sqrt(torch.clamp(error + change, min=0.0) / (light + _FAINTEST))


class ProbeInformedNetwork(nn.Module):
    """Physics front end, U-Net, and as many further meetings with the measurement as configured.

    Step 1 starts from the empty beam (O = 1): √I of each SADGS view takes the phase of F(P_m), goes back
    to the sample and is divided by the probe. Each further step does the same from the object that the
    step before predicted. All modes are used: Σ_m |F(P_m·O)|² is what the detector sees.
    """

    def __init__(self, config: NetworkConfig, probe: NDArray[np.complex64]) -> None:
        """Build for one instrument.

        Args:
            config: shapes and widths.
            probe: (M, H, W) complex modes, square-root photons a pixel.

        Raises:
            ValueError: the probe's shape is not the frame's, or it is dark.
        """
        super().__init__()
        if probe.ndim != 3 or probe.shape[1:] != config.frame_shape:
            raise ValueError(f"the probe has shape {probe.shape}, the frames {config.frame_shape}")
        self.config = config
        self.modes = int(probe.shape[0])
        self.sadgs = Sadgs(config.sadgs)
        self.far_field = FarField(config.frame_shape, config.tile_shape)
        self.light = Illumination(probe, config.tile_shape)
        self.tilt = TiltMatch(probe, config.tile_shape) if config.match_tilt else None
        views = len(config.sadgs.gain_exponents)
        maps = 2 * self.modes + 1 + (config.exposure == "kept-out")
        self.first = UNet(2 * self.modes * views + maps, config.width, config.spread)
        self.later = nn.ModuleList(
            UNet(2 * self.modes + 2 + maps, config.width, config.spread) for _ in range(config.steps - 1)
        )

    def forward(self, counts: Tensor) -> Prediction:
        """Predict the tile under the probe.

        Args:
            counts: (N, 1, H, W) raw photons a pixel, any real dtype, zero frequency at the centre.

        Returns:
            Planes of (N, 1, h, w).
        """
        return self._painted(counts) if self.tilt is None else self.explained(counts)[0]

    def explained(self, counts: Tensor) -> tuple[Prediction, Tensor]:
        """Return what `forward` does, and the forward residual (N,) for little more.

        Where tilts are matched it is that of the linear step: of an object tilted beyond the tile, too.
        """
        painted = self._painted(counts)
        misfit = self._misfit(counts, painted)
        if self.tilt is None:
            return painted, misfit.residual()
        tilt, change = self.tilt(misfit.waves, misfit.error, misfit.valid, self.strength(counts))
        cos, sin = self.tilt.turned(tilt, painted.cos, painted.sin)
        raw_cos, raw_sin = self.tilt.turned(tilt, painted.raw_cos, painted.raw_sin)
        return painted._replace(cos=cos, sin=sin, raw_cos=raw_cos, raw_sin=raw_sin), misfit.residual(change)

    def _painted(self, counts: Tensor) -> Prediction:
        """Return what the U-Nets say."""
        strength = self.strength(counts)
        counts = self._scaled(counts, strength)
        maps = self._maps(strength)
        heads = self.first(self._from_empty_beam(counts), maps)
        prediction = self._predict(heads)
        for network in self.later:
            tile = _as_planes(prediction)
            heads = heads + network(torch.cat([self._correction(counts, tile), tile], dim=1), maps)
            prediction = self._predict(heads)
        return prediction._replace(amplitude=prediction.amplitude * torch.sqrt(strength))

    def _predict(self, heads: Tensor) -> Prediction:
        return predict(functional.pixel_shuffle(heads, 2), self.config.amplitude_range)

    def freeze_spread(self) -> None:
        """Leave the spread as it was learned: where no tile is known, nothing teaches it."""
        for network in (self.first, *self.later):
            if network.sure is not None:
                network.sure.requires_grad_(False)

    def strength(self, counts: Tensor) -> Tensor:
        """Return how many times the empty beam's counts a frame holds, (N, 1, 1, 1).

        1 where the exposure is not kept out. It is √ of this by which an object looks stronger.
        """
        if self.config.exposure == "absolute":
            return torch.ones_like(counts[:, :, :1, :1], dtype=torch.float32)
        valid = self._valid(counts)
        held, expected = (
            torch.where(valid, photons, 0.0).sum(dim=(2, 3), keepdim=True)
            for photons in (counts.float(), self.light.empty.expand_as(counts))
        )
        least, greatest = _STRENGTHS
        return torch.clamp((held + 1.0) / (expected + 1.0), least, greatest)

    def residual(self, counts: Tensor, prediction: Prediction) -> Tensor:
        """Return √(Σ(√I − √Î)² / ΣI) over each frame's valid pixels, (N,); 0 is perfect.

        As `model.optics.tile_residual`, but beyond the tile the object is as empty as the exposure makes it
        look.

        Args:
            counts: (N, 1, H, W) raw photons a pixel.
            prediction: for them.
        """
        return self._misfit(counts, prediction).residual()

    def _misfit(self, counts: Tensor, prediction: Prediction) -> _Misfit:
        """Return how far the patterns of tiles are from the frames, at the empty beam's strength."""
        strength = self.strength(counts)
        waves = self._waves(_as_planes(prediction) / torch.sqrt(strength))
        measured = torch.sqrt(self._scaled(counts, strength))
        expected = torch.sqrt(torch.square(waves).sum(dim=(1, 2)).unsqueeze(1))
        return _Misfit(waves, measured, measured - expected, self._valid(counts))

    def _valid(self, counts: Tensor) -> Tensor:
        limit = self.config.invalid_counts
        return torch.ones_like(counts, dtype=torch.bool) if limit is None else counts.float() < limit

    def _scaled(self, counts: Tensor, strength: Tensor) -> Tensor:
        """Return counts at the empty beam's strength; unusable pixels hold the empty beam's."""
        scaled = counts.float() / strength
        return torch.where(self._valid(counts), scaled, self.light.empty)

    def _maps(self, strength: Tensor) -> Tensor:
        """Return what is told of the probe, and with it how noisy a frame of such a strength is."""
        maps = self.light.maps.expand(strength.shape[0], -1, -1, -1)
        if self.config.exposure == "absolute":
            return maps
        return torch.cat([maps, torch.log2(strength).expand(-1, -1, *self.config.tile_shape)], dim=1)

    def _from_empty_beam(self, counts: Tensor) -> Tensor:
        """Return what the object changed of the empty beam, seen from the sample: (N, 2·M·views, h, w)."""
        views = self._amplitudes(counts) - self._amplitudes(self.light.empty)
        field = views[:, :, None, None] * self.light.direction
        return self._to_object(field.flatten(0, 2), views.shape[0])

    def _amplitudes(self, counts: Tensor) -> Tensor:
        """Return √ of each SADGS view, back in photons: (N, views, H, W).

        √(clip(g·I, 0, S) / g) = min(√I, √(S/g)), as no count is negative.
        """
        return torch.minimum(torch.sqrt(counts), torch.sqrt(self.sadgs.config.clip_level / self.sadgs.gains))

    def _correction(self, counts: Tensor, tile: Tensor) -> Tensor:
        """Return how the exit wave must change for the measured amplitudes: (N, 2·M, h, w)."""
        field = self._waves(tile)
        expected = torch.square(field).sum(dim=(1, 2)).unsqueeze(1)
        ratio = torch.sqrt((counts + _FAINTEST) / (expected + _FAINTEST)) - 1.0
        return self._to_object((field * ratio[:, None]).flatten(0, 1), counts.shape[0])

    def _waves(self, tile: Tensor) -> Tensor:
        """Return the modes' far fields of tiles (N, 2, h, w): (N, M, 2, H, W)."""
        exit_waves = complex_product(self.light.window_modes, tile[:, None])
        inside: Tensor = self.far_field(exit_waves.flatten(0, 1))
        return inside.reshape(-1, self.modes, 2, *self.config.frame_shape) + self.light.outside

    def _to_object(self, field: Tensor, n: int) -> Tensor:
        """Carry far fields (N·k·M, 2, H, W) → object updates (N, k·M·2, h, w)."""
        exit_waves = self.far_field.back(field).reshape(-1, self.modes, 2, *self.config.tile_shape)
        return complex_product(exit_waves, self.light.backward).reshape(n, -1, *self.config.tile_shape)


def _as_planes(prediction: Prediction) -> Tensor:
    """Return the predicted object tile as (N, 2, h, w)."""
    return torch.cat([prediction.amplitude * prediction.cos, prediction.amplitude * prediction.sin], dim=1)
