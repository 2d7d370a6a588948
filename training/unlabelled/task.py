"""The Lightning module that learns from counts alone: likelihood, overlap, and a fixed gauge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.likelihood import frame_residual, poisson_deviance
from model.network import Prediction
from model.optics import centre_crop, intensity
from model.probe_informed import ProbeInformedNetwork
from training.task import ReconstructionTask, TaskConfig, complex_tiles
from training.unlabelled.measured import ScanBatch
from training.unlabelled.overlap import disagreement


@dataclass(frozen=True, slots=True)
class ObjectiveWeights:
    """What counts beside the likelihood.

    Attributes:
        consistency: weight of the disagreement of neighbouring tiles.
        gauge: weight of the drift of a tile's absolute phase.
    """

    consistency: float
    gauge: float


class SelfSupervisedTask(ReconstructionTask):
    """Learn tiles from the counts that they must explain; its checkpoint is that of any other run.

    The likelihood does not see the absolute phase, so a term of its own holds it where simulated training
    puts it: arg Σ|P|²·Ô = 0. What lies outside the light, the mosaic does not see either: nothing binds it.
    """

    light: Tensor  # (1, 1, h, w) intensity of the probe on a tile

    def __init__(
        self,
        config: TaskConfig,
        probe: NDArray[np.complex64],
        record: dict[str, Any],
        weights: ObjectiveWeights,
    ) -> None:
        """Build the network.

        Args:
            config: network and schedule.
            probe: (M, H, W) complex modes, kept in the checkpoint.
            record: plain values about the run to keep in the checkpoint besides.
            weights: of the terms.

        Raises:
            ValueError: the probe does not fit the configuration.
        """
        super().__init__(config, probe, record)
        tile_shape = config.network.tile_shape
        self.weights = weights
        if isinstance(self.network, ProbeInformedNetwork):
            self.network.freeze_spread()
        light = centre_crop(intensity(probe), tile_shape)[None, None]
        self.register_buffer("light", torch.tensor(light, dtype=torch.float32), persistent=False)

    def tiles(self, counts: Tensor) -> Tensor:
        """(N, 1, H, W) counts → (N, 1, h, w) complex."""
        return complex_tiles(cast(Prediction, self(counts)))

    def training_step(self, batch: ScanBatch, _: int) -> Tensor:  # type: ignore[override]  # no labels in it
        """Return the objective."""
        batch = ScanBatch(*batch)
        terms = self._objective(self.tiles(batch.counts), batch)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: ScanBatch, _: int) -> None:  # type: ignore[override]  # no labels in it
        """Log the held-out deviance, by which the best checkpoint is chosen, and what a person can read."""
        batch = ScanBatch(*batch)
        tiles = self.tiles(batch.counts)
        explained = self.explain(tiles, batch.counts)
        figures = {
            "val/loss": poisson_deviance(*explained).mean(),
            "val/forward_residual": frame_residual(*explained).mean(),
        }
        if batch.reference is not None:
            figures["val/phase_rms_rad"] = phase_rms_rad(tiles, batch.reference, self.light).mean()
        self.log_dict(figures, prog_bar=True, batch_size=len(batch.counts), sync_dist=True)

    def _objective(self, tiles: Tensor, batch: ScanBatch) -> dict[str, Tensor]:
        here, there = tiles.chunk(2)
        with torch.autocast(self.device.type, enabled=False):  # counts need float32
            deviance = poisson_deviance(*self.explain(tiles, batch.counts))
            terms = {
                "deviance": deviance.mean(),
                "disagreement": disagreement(here, there, batch.offsets_px, self.light),
                "gauge": gauge_drift(tiles, self.light).mean(),
            }
        k = self.weights
        beside = k.consistency * terms["disagreement"] + k.gauge * terms["gauge"]
        return {"loss": terms["deviance"] + beside, **terms}


def gauge_drift(tiles: Tensor, light: Tensor) -> Tensor:
    """Return 1 − cos arg Σ|P|²·O of each tile, (N,): 0 in the gauge that simulated tiles are turned into.

    Args:
        tiles: (N, 1, h, w) complex.
        light: (1, 1, h, w) intensity of the probe.
    """
    mean = (tiles * light).sum(dim=(1, 2, 3))
    return 1 - mean.real / mean.abs().clamp_min(torch.finfo(light.dtype).tiny)


def phase_rms_rad(tiles: Tensor, truth: Tensor, light: Tensor) -> Tensor:
    """Return the root mean square phase error of each tile under the light, its best turn removed, (N,).

    Args:
        tiles: (N, 1, h, w) complex.
        truth: of the same; 0 where it is not known, which does not count.
        light: (1, 1, h, w) intensity of the probe.
    """
    weight = light * (truth != 0)
    turned = tiles * truth.conj()
    turn = (weight * turned).sum(dim=(1, 2, 3), keepdim=True).conj()
    squared = weight * torch.square(torch.angle(turned * turn))
    return torch.sqrt(squared.sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)))
