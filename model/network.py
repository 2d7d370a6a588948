"""The configuration of a network, what every kind of it predicts, and the paper's own.

`paper` is the circular-phase network of arXiv 2604.26664 (2026); `probe-informed` gives the same heads the
physics that the paper's has to learn (model.probe_informed). Both take raw counts and hold their scaling.
`model.variants` builds the one that a configuration names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.sadgs import Sadgs, SadgsConfig
from model.spread import circular_std_rad, concentration

Kind = Literal["paper", "probe-informed"]
Exposure = Literal["absolute", "kept-out"]

SKIP_CHANNELS = 64
EPSILON = 1e-8  # of the projection; underflows in float16, so the projection stays in float32


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything that decides a network's shape.

    Attributes:
        kind: which network.
        sadgs: the scaling of the counts.
        frame_shape: (H, W) pixels of the diffraction pattern.
        tile_shape: (h, w) pixels painted, centred on the probe; the paper's kind paints the whole frame.
        amplitude_range: largest amplitude that the sigmoid can express.
        invalid_counts: a pixel at or above this is a gap, dead or hot and is not used; None: all are used.
        width: channels of the probe-informed network at half resolution.
        steps: how many times the probe-informed network meets the measurement.
        exposure: "absolute": counts are taken in photons of the probe's own exposure; "kept-out": the
            probe-informed network sees each frame at the empty beam's counts, so that the phase does not
            depend on the exposure and the amplitude goes with its root.
        spread: the probe-informed network says how sure it is of the phase of every pixel.
        match_tilt: the probe-informed network's tiles get the phase ramp that their own patterns tell
            (model.tilt); it learns nothing, and is switched on when the network is exported.
        skip, fusion, projection: the paper's parts, each of which its Table V takes away; without the
            fusion layer the encoders' features are averaged.
    """

    kind: Kind
    sadgs: SadgsConfig
    frame_shape: tuple[int, int]
    tile_shape: tuple[int, int]
    amplitude_range: float = 1.0
    invalid_counts: float | None = 65535.0
    width: int = 64
    steps: int = 1
    exposure: Exposure = "absolute"
    spread: bool = False
    match_tilt: bool = False
    skip: bool = True
    fusion: bool = True
    projection: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that the layers cannot run at."""
        if any(n % 8 or n < 8 for n in (*self.frame_shape, *self.tile_shape)):
            raise ValueError(
                f"frame {self.frame_shape} and tile {self.tile_shape} must be multiples of 8 pixels"
            )
        if any(t > f for t, f in zip(self.tile_shape, self.frame_shape, strict=True)):
            raise ValueError(f"tile {self.tile_shape} is larger than the frame {self.frame_shape}")
        if self.steps < 1 or self.width < 1:
            raise ValueError(f"a network of {self.steps} steps and {self.width} channels computes nothing")
        if self.kind == "paper" and self.spread:
            raise ValueError("the paper's network has no plane that says how sure it is")
        if self.kind == "paper" and self.match_tilt:
            raise ValueError("the paper's network knows no probe to match a tile's tilt by")
        if self.kind == "paper" and self.tile_shape != self.frame_shape:
            raise ValueError("the paper's network paints the whole frame: tile and frame must be equal")


class Prediction(NamedTuple):
    """What a network says of an object tile, each (N, 1, h, w).

    Attributes:
        amplitude: in [0, amplitude_range].
        cos, sin: on the unit circle.
        raw_cos, raw_sin: the same before projection, in [-1, 1]; the nearer to the origin, the less the
            phase is determined.
        concentration: κ of the phase's von Mises distribution, float32; None: the network does not say.
    """

    amplitude: Tensor
    cos: Tensor
    sin: Tensor
    raw_cos: Tensor
    raw_sin: Tensor
    concentration: Tensor | None = None

    @property
    def spread_rad(self) -> Tensor | None:
        """Circular standard deviation of the phase, radians; None: the network does not say."""
        return None if self.concentration is None else circular_std_rad(self.concentration)


def project_to_circle(raw_cos: Tensor, raw_sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return (ĉ, ŝ) = (c, s) / √(c² + s² + ε), in float32 (arXiv 2604.26664, eq. 3)."""
    raw_cos, raw_sin = raw_cos.float(), raw_sin.float()
    radius = torch.sqrt(raw_cos * raw_cos + raw_sin * raw_sin + EPSILON)
    return raw_cos / radius, raw_sin / radius


def predict(heads: Tensor, amplitude_range: float, projection: bool = True) -> Prediction:
    """Turn unbounded planes (N, 3, h, w) into amplitude by sigmoid and phase on the circle by tanh.

    A fourth plane tells how sure the phase is.
    """
    a, c, s, *sure = torch.split(heads, 1, dim=1)
    amplitude = amplitude_range * torch.sigmoid(a.float())
    raw_cos, raw_sin = torch.tanh(c), torch.tanh(s)
    on_circle = project_to_circle(raw_cos, raw_sin) if projection else (raw_cos, raw_sin)
    return Prediction(amplitude, *on_circle, raw_cos, raw_sin, concentration(sure[0]) if sure else None)


def valid_counts(counts: Tensor, invalid_counts: float | None, fill: Tensor | float) -> Tensor:
    """Return the counts with unusable pixels replaced by `fill`, as float32."""
    counts = counts.float()
    if invalid_counts is None:
        return counts
    return torch.where(counts >= invalid_counts, torch.as_tensor(fill, dtype=torch.float32), counts)


def upsample(x: Tensor) -> Tensor:
    """Double the resolution of (N, C, h, w), bilinearly."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Encoder(nn.Sequential):
    """One gain's view (N, 1, H, W) → (N, 128, H/8, W/8)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(inputs, outputs, 5, stride=2, padding=2), nn.ReLU()]
        super().__init__(*layers)


class Decoder(nn.Module):
    """Fused features (N, 128, H/8, W/8) and the skip (N, S, H/4, W/4) → one plane (N, 1, H, W)."""

    def __init__(self, skip_channels: int = SKIP_CHANNELS) -> None:
        super().__init__()
        self.deep = _two_convolutions(128, 128)
        self.middle = _two_convolutions(128 + skip_channels, 64)
        self.fine = _two_convolutions(64, 64)
        self.head = nn.Conv2d(64, 1, 3, padding=1)

    def forward(self, fused: Tensor, skip: Tensor | None) -> Tensor:
        """Decode one plane."""
        x = upsample(self.deep(fused))
        x = x if skip is None else torch.cat([x, skip], dim=1)
        x = upsample(self.middle(x))
        plane: Tensor = self.head(upsample(self.fine(x)))
        return plane


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
    )


class PaperNetwork(nn.Module):
    """The circular-phase network of arXiv 2604.26664: 2 117 187 parameters at two gains.

    Two encoders (one a gain) fused by a 1x1 convolution, a skip from the unscaled counts, three decoders.
    """

    def __init__(self, config: NetworkConfig, planes: int = 3) -> None:
        """Build it.

        Args:
            config: what the network is like.
            planes: decoders; the third is for the sine.
        """
        super().__init__()
        self.config = config
        gains = len(config.sadgs.gain_exponents)
        self.sadgs = Sadgs(config.sadgs)
        self.encoders = nn.ModuleList(Encoder() for _ in range(gains))
        self.fusion = nn.Conv2d(128 * gains, 128, 1, bias=False) if config.fusion else None
        self.skip = _skip_branch() if config.skip else None
        self.decoders = nn.ModuleList(Decoder(SKIP_CHANNELS if config.skip else 0) for _ in range(planes))

    def forward(self, counts: Tensor) -> Prediction:
        """Predict the tile.

        Args:
            counts: (N, 1, H, W) raw photons a pixel, any real dtype, zero frequency at the centre.

        Returns:
            Planes of (N, 1, H, W).
        """
        return predict(self.heads(counts), self.config.amplitude_range, self.config.projection)

    def heads(self, counts: Tensor) -> Tensor:
        """Return the decoders' unbounded planes (N, planes, H, W)."""
        counts = valid_counts(counts, self.config.invalid_counts, 0.0)
        views = torch.split(self.sadgs(counts), 1, dim=1)
        encoded = [encoder(view) for encoder, view in zip(self.encoders, views, strict=True)]
        fused = torch.stack(encoded).mean(0) if self.fusion is None else self.fusion(torch.cat(encoded, 1))
        skip = None if self.skip is None else self.skip(counts)
        return torch.cat([decoder(fused, skip) for decoder in self.decoders], dim=1)


def _skip_branch() -> nn.Sequential:
    """Return the unscaled counts' way past the encoders: (N, 1, H, W) → (N, 64, H/4, W/4)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, SKIP_CHANNELS, 3, stride=2, padding=1),
    )
