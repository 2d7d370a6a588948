"""One training run in plain values, and the probe and configuration that follow from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.losses import LossWeights
from model.network import Exposure, Kind, NetworkConfig
from model.sadgs import SadgsConfig, percentile_counts
from model.scans import Reference, ScanFileError, open_scan
from training.methods import METHODS
from training.simulation.factory import FrameFactory, SimulationRecipe
from training.task import EMA_DECAY, ScheduleConfig, TaskConfig

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

# The paper's p; and one high enough that the probe-informed network's low gain clips next to nothing,
# because what is clipped is lost to its projection step.
PERCENTILE: dict[Kind, float] = {"paper": 99.5, "probe-informed": 99.999}
# Above the greatest amplitude of the simulated objects at the probe's exposure; with the exposure kept out,
# relative to what of the light passes, which in an opaque object's hole is more.
AMPLITUDE_RANGE: dict[Exposure, float] = {"absolute": 1.5, "kept-out": 2.5}

# What runs did before these could be chosen: their records do not say so.
UNRECORDED = {
    "keep_exposure_out": False,
    "likelihood": 0.0,
    "spread": False,
    "ema": False,
    "start": None,
    "method": None,
    "gain_exponents": (0.001, 4.0),
    "modes": None,
    "schedule": "one-cycle",
    "split": None,  # of a run without labels
}


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """One training run on simulated frames.

    Attributes:
        probe: scan file whose reference holds the probe.
        kind: of network.
        method: of training.methods, whose network learns by its own loss and optimiser; None: a network of
            `kind` by the composite loss under the probe's weight.
        tile_px: edge of the painted tile, pixels; the paper's kind and all methods paint the whole frame.
        width, steps: of the probe-informed network.
        samples: frames to learn from, on each device.
        batch: frames a step.
        learning_rate: the greatest.
        schedule: "one-cycle", or "published": the method's own, or the paper's, stretched to the run.
        precision: Lightning's word, e.g. "bf16-mixed".
        seed: of weights, objects and noise.
        gain_exponents: of SADGS, one a view of the counts.
        modes: of the probe that the network is told of, with all of the light; None: all. The frames are
            always made with all.
        keep_exposure_out: of the probe-informed network, whose phases then do not depend on it.
        likelihood: weight of the Poisson likelihood of the true tiles' patterns beside the composite loss.
        spread: the probe-informed network learns how sure it is of the phase of every pixel.
        ema: the weights' moving average is what is validated and kept.
        start: checkpoint whose weights are taken over; None: from nothing.
        validations: how often the held-out frames are looked at.
        recipe: what the simulated frames are like.
    """

    probe: Path
    kind: Kind = "probe-informed"
    method: str | None = None
    tile_px: int = 80
    width: int = 32
    steps: int = 2
    samples: int = 300_000
    batch: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["one-cycle", "published"] = "one-cycle"
    precision: Precision = "32-true"
    seed: int = 1
    gain_exponents: tuple[float, ...] = (0.001, 4.0)
    modes: int | None = None
    keep_exposure_out: bool = True
    likelihood: float = 1.0
    spread: bool = True
    ema: bool = True
    start: Path | None = None
    validations: int = 50
    recipe: SimulationRecipe = field(default_factory=SimulationRecipe)

    def __post_init__(self) -> None:
        """Raise ValueError for a method that nobody knows."""
        if self.method is not None and self.method not in METHODS:
            raise ValueError(f"no method {self.method!r} for simulated frames: take {', '.join(METHODS)}")

    @property
    def network_kind(self) -> Kind:
        """Of the network's configuration: published methods are given the paper's."""
        return self.kind if self.method is None else "paper"

    @property
    def gradient_clip(self) -> float | None:
        """Greatest norm of the gradient; None: a method was published without one."""
        return 1.0 if self.method is None else METHODS[self.method].recipe.clip

    @property
    def steps_between_validations(self) -> int:
        """Optimiser steps from one look at the held-out frames to the next."""
        return max(1, self.samples // self.batch // self.validations)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run, which ends on a look at the held-out frames."""
        steps = max(1, self.samples // self.batch)
        return steps - steps % self.steps_between_validations

    def as_record(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or a bundle's description."""
        paths = {"probe": str(self.probe), "start": None if self.start is None else str(self.start)}
        return {**asdict(self), **paths}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> TrainingPlan:
        """Undo `as_record`; a record made before a setting could be chosen keeps what went without saying.

        Raises:
            msgspec.ValidationError: these are not a plan's values.
        """
        return msgspec.convert(UNRECORDED | record, cls, dec_hook=lambda _, path: Path(path))


def read_reference(path: Path) -> Reference:
    """Return a scan file's reference reconstruction.

    Raises:
        ScanFileError: the file has none, or cannot be read.
    """
    with open_scan(path) as scan:
        reference = scan.reference()
    if reference is None:
        raise ScanFileError(f"{path}: no reference reconstruction in it, so no probe to work with")
    return reference


def configure(plan: TrainingPlan, probe: NDArray[np.complex64]) -> TaskConfig:
    """Fix SADGS's percentile on simulated training frames and return the whole configuration.

    Raises:
        ValueError: the plan does not fit the probe.
    """
    frame_shape = (probe.shape[1], probe.shape[2])
    published = plan.network_kind == "paper"  # it knows neither probe nor exposure
    tile_shape = frame_shape if published else (plan.tile_px, plan.tile_px)
    percentile = PERCENTILE[plan.network_kind]
    exposure: Exposure = "kept-out" if plan.keep_exposure_out and not published else "absolute"
    network = NetworkConfig(
        kind=plan.network_kind,
        sadgs=_sadgs(plan, probe, percentile, exposure),
        frame_shape=frame_shape,
        tile_shape=tile_shape,
        amplitude_range=_amplitude_range(plan, exposure),
        width=plan.width,
        steps=plan.steps,
        exposure=exposure,
        spread=plan.spread and not published,
    )
    loss = LossWeights(likelihood=0.0 if published else plan.likelihood)
    return TaskConfig(
        network,
        _schedule(plan),
        loss,
        method=plan.method,
        optimiser="adam" if plan.method is None else METHODS[plan.method].recipe.optimiser,
        ema_decay=EMA_DECAY if plan.ema else None,
    )


def _schedule(plan: TrainingPlan) -> ScheduleConfig:
    if plan.schedule == "one-cycle":
        return ScheduleConfig(high=plan.learning_rate, total_steps=plan.total_steps)
    recipe = METHODS[plan.method or "paper"].recipe
    return ScheduleConfig(
        kind="constant" if recipe.low == recipe.high else "cyclic",
        low=plan.learning_rate * recipe.low / recipe.high,
        high=plan.learning_rate,
        half_cycle_steps=max(1, round(plan.total_steps * recipe.half_cycle_epochs / recipe.epochs)),
    )


def _amplitude_range(plan: TrainingPlan, exposure: Exposure) -> float:
    """Return what an object may look like, which in absolute counts goes with the exposure's root."""
    strongest = plan.recipe.camera.exposure[1] if exposure == "absolute" else 1.0
    return AMPLITUDE_RANGE[exposure] * max(1.0, math.sqrt(strongest))


def _sadgs(
    plan: TrainingPlan, probe: NDArray[np.complex64], percentile: float, exposure: Exposure
) -> SadgsConfig:
    greatest = _greatest_counts(plan, probe, percentile, exposure)
    return SadgsConfig(greatest, percentile, gain_exponents=plan.gain_exponents)


def _greatest_counts(
    plan: TrainingPlan, probe: NDArray[np.complex64], percentile: float, exposure: Exposure
) -> float:
    """Return SADGS's percentile of simulated frames, at the probe's own exposure where it is kept out."""
    camera = (
        plan.recipe.camera if exposure == "absolute" else replace(plan.recipe.camera, exposure=(1.0, 1.0))
    )
    recipe = replace(plan.recipe, camera=camera)
    counts = FrameFactory(probe, (8, 8), 64, plan.seed, recipe).make(0).counts
    return percentile_counts(counts, percentile, counts >= camera.invalid_counts)
