"""Maps of thickness become complex transmissions: how much they turn the phase, how much they absorb."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.simulation.objects import EVERY_FAMILY, FAMILIES, Map, random_field

_BACKGROUND_BLUR_PX = 12.0
_BACKGROUND_MAX_RAD = 0.8


@dataclass(frozen=True, slots=True)
class ObjectRecipe:
    """What the random objects look like.

    Two dice are thrown for each object. Its phase: weak (`weak_share`), over several turns (`turns_share`),
    or else ordinary. Its amplitude: none (`pure_phase_share`), strong absorption (`opaque_share`), or else
    ordinary. By default eight of ten phases and two of three amplitudes are ordinary.

    Attributes:
        families: names in `EVERY_FAMILY`, drawn with equal chance; those of training by default.
        phase_span_rad: least and greatest span of an ordinary object's phase.
        absorption: greatest |ln amplitude| over an ordinary object.
        amplitude_max: amplitudes are cut here.
        blur_px: least and greatest Gaussian σ of the edges.
        weak_share: of objects whose phase stays within ±`weak_phase_rad` of its middle.
        weak_phase_rad: see there.
        turns_share: of objects whose phase spans more than an ordinary one's, up to `turns_span_rad`.
        turns_span_rad: three turns by default.
        gradient_max_rad: the phase's greatest step from a pixel to the next, without the slow background;
            edges of high objects are blurred more for it, so that the object's pixel can hold them.
        pure_phase_share: of objects that absorb nothing; the amplitude is 1.
        opaque_share: of objects with |ln amplitude| up to `opacity` where they are thickest.
        opacity: see there.
        correlated_share: of absorbing objects whose absorption follows the phase's map; the others have a
            map of their own.
        background_share: of objects with a slow variation of the phase besides.
        known: file with an object that is known already (`training.simulation.known`); None: all are random.
        known_share: of objects that are windows of it.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    phase_span_rad: tuple[float, float] = (0.1, 2.4)
    absorption: float = 0.5
    amplitude_max: float = 1.45
    blur_px: tuple[float, float] = (0.4, 1.3)
    weak_share: float = 0.1
    weak_phase_rad: float = 0.2
    turns_share: float = 0.1
    turns_span_rad: float = 6 * math.pi
    gradient_max_rad: float = math.pi / 2
    pure_phase_share: float = 0.25
    opaque_share: float = 0.1
    opacity: float = 2.0
    correlated_share: float = 0.6
    background_share: float = 0.5
    known: str | None = None
    known_share: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError for a family that nobody knows, spans out of order and shares that are none."""
        unknown = set(self.families) - set(EVERY_FAMILY)
        if unknown or not self.families:
            raise ValueError(f"families {self.families}: take some of {', '.join(EVERY_FAMILY)}")
        if not 0 <= self.phase_span_rad[0] <= self.phase_span_rad[1]:
            raise ValueError(f"phase span {self.phase_span_rad}: least and greatest are needed, not below 0")
        for shares in (
            (self.weak_share, self.turns_share),
            (self.pure_phase_share, self.opaque_share),
            (self.correlated_share,),
            (self.background_share,),
            (self.known_share,),
        ):
            if min(shares) < 0 or sum(shares) > 1:
                raise ValueError(f"shares {shares} of the objects: each at least 0, together at most 1")


def random_object(rng: np.random.Generator, size: int, recipe: ObjectRecipe) -> NDArray[np.complex64]:
    """Draw one complex transmission (size, size)."""
    span = _phase_span_rad(rng, recipe)
    thickness = _soft_map(rng, size, recipe, span)
    phase = float(rng.choice([-1.0, 1.0])) * span * thickness
    if rng.uniform() < recipe.background_share:
        phase = phase + _background_rad(rng, size, span)
    amplitude = np.minimum(np.exp(_log_amplitude(rng, thickness, recipe)), recipe.amplitude_max)
    transmission = np.empty((size, size), np.complex64)
    transmission.real, transmission.imag = amplitude * np.cos(phase), amplitude * np.sin(phase)
    return transmission


def _phase_span_rad(rng: np.random.Generator, recipe: ObjectRecipe) -> float:
    kind = rng.uniform()
    if kind < recipe.weak_share:
        # the background may double it, so that the whole spans twice `weak_phase_rad` at most
        return recipe.weak_phase_rad * rng.uniform(0.1, 1.0)
    if kind > 1 - recipe.turns_share:
        ordinary = recipe.phase_span_rad[1]
        return rng.uniform(ordinary, max(ordinary, recipe.turns_span_rad))
    return rng.uniform(*recipe.phase_span_rad)


def _soft_map(rng: np.random.Generator, size: int, recipe: ObjectRecipe, span_rad: float) -> Map:
    """Draw a map with edges that a phase of this span may have.

    What lies in [0, 1] rises by at most 1/(σ√2π) a pixel behind a Gaussian: an edge between 0 and 1 does.
    """
    family = EVERY_FAMILY[str(rng.choice(recipe.families))]
    least_blur_px = span_rad / (recipe.gradient_max_rad * math.sqrt(2 * math.pi))
    blur_px = max(rng.uniform(*recipe.blur_px), least_blur_px)
    soft: Map = ndimage.gaussian_filter(family(rng, size), blur_px)
    return soft


def _background_rad(rng: np.random.Generator, size: int, span_rad: float) -> Map:
    height_rad = np.float32(rng.uniform(0, min(_BACKGROUND_MAX_RAD, span_rad)))
    slow: Map = height_rad * ndimage.gaussian_filter(random_field(rng, size), _BACKGROUND_BLUR_PX)
    return slow


def _log_amplitude(rng: np.random.Generator, thickness: Map, recipe: ObjectRecipe) -> Map:
    kind = rng.uniform()
    if kind < recipe.pure_phase_share:
        return np.zeros_like(thickness)
    correlated = rng.uniform() < recipe.correlated_share
    absorbing = thickness if correlated else _soft_map(rng, len(thickness), recipe, 0.0)
    if kind > 1 - recipe.opaque_share:
        return np.float32(-recipe.opacity * rng.uniform(0.25, 1.0)) * absorbing
    level, contrast = rng.uniform(-0.15, 0.15), rng.uniform(-0.3, 1.0) * recipe.absorption
    return np.float32(level) - np.float32(contrast) * (absorbing - np.float32(0.5))
