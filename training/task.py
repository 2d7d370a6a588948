"""The Lightning module: one network, one loss, one schedule."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler

from model.losses import LossWeights, composite_loss
from model.network import NetworkConfig, Prediction
from model.variants import build_network
from training.simulate import Sample, probe_weight_map


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How the learning rate moves.

    Attributes:
        kind: "cyclic" is the paper's triangular2 between `low` and `high`; "one-cycle" warms up to `high`
            and anneals to nothing by `total_steps`.
        low, high: learning rates.
        half_cycle_steps: of the cyclic schedule; the paper's six epochs, in iterations.
        total_steps: of the one-cycle schedule.
    """

    kind: Literal["cyclic", "one-cycle"] = "one-cycle"
    low: float = 1e-4
    high: float = 1e-3
    half_cycle_steps: int = 1000
    total_steps: int = 1000

    def build(self, optimizer: Adam) -> LRScheduler:
        """Return the scheduler; it steps once an iteration."""
        if self.kind == "cyclic":
            return CyclicLR(
                optimizer,
                self.low,
                self.high,
                self.half_cycle_steps,
                mode="triangular2",
                cycle_momentum=False,
            )
        return LambdaLR(optimizer, self._one_cycle)

    def _one_cycle(self, step: int) -> float:
        """Share of `high`: up over the first twentieth of the run, then half a cosine down to nothing."""
        done = min(1.0, step / self.total_steps)
        return min(1.0, 20 * done + 0.01) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """All that a checkpoint needs to be built again, beside the probe."""

    network: NetworkConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossWeights = field(default_factory=LossWeights)


class TileErrors(NamedTuple):
    """Root mean square errors of each tile, (N,).

    Attributes:
        phase_rad: of the circular phase error, radians.
        amplitude: of the amplitude.
    """

    phase_rad: Tensor
    amplitude: Tensor


def tile_errors(prediction: Prediction, truth: Sample, weight: Tensor) -> TileErrors:
    """Return how far each tile is from the truth, in the gauge that it was learned in.

    Args:
        prediction: planes (N, 1, h, w).
        truth: of the same tiles.
        weight: (1, 1, h, w) of mean 1.
    """
    along = prediction.cos * truth.cos + prediction.sin * truth.sin
    across = prediction.sin * truth.cos - prediction.cos * truth.sin
    errors = torch.atan2(across, along), prediction.amplitude - truth.amplitude
    return TileErrors(*(torch.sqrt((torch.square(e) * weight).mean(dim=(1, 2, 3))) for e in errors))


class ReconstructionTask(lightning.LightningModule):
    """Learn tiles from diffraction patterns (Adam, gradient clipping by the trainer)."""

    loss_weight: Tensor

    def __init__(
        self, config: TaskConfig, probe: NDArray[np.complex64], record: dict[str, Any] | None = None
    ) -> None:
        """Build the network.

        Args:
            config: network, schedule and loss.
            probe: (M, H, W) complex modes; kept in the checkpoint.
            record: plain values about the run to keep in the checkpoint besides.

        Raises:
            ValueError: the probe does not fit the configuration.
        """
        super().__init__()
        self.config = config
        network: nn.Module = build_network(config.network, probe)
        # torch's annotations of Module.to leave memory_format out
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weight = probe_weight_map(probe, config.network.tile_shape)
        self.register_buffer("loss_weight", weight, persistent=False)
        self.probe = torch.as_tensor(probe)
        self.record = record or {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is needed to build the task again: plain values and the probe, nothing pickled."""
        checkpoint["ptycholive"] = {"config": asdict(self.config), "probe": self.probe, **self.record}

    def forward(self, counts: Tensor) -> Prediction:
        """(N, 1, H, W) counts → planes (N, 1, h, w)."""
        return cast(Prediction, self.network(counts))

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the composite loss."""
        batch = Sample(*batch)
        terms = self._terms(self(batch.counts), batch)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: Sample, _: int) -> None:
        """Log the loss and the two errors that a person can read."""
        batch = Sample(*batch)
        prediction = self(batch.counts)
        errors = tile_errors(prediction, batch, self.loss_weight)
        figures = {
            "val/loss": self._terms(prediction, batch)["loss"],
            "val/phase_rms_rad": errors.phase_rad.mean(),
            "val/amplitude_rms": errors.amplitude.mean(),
        }
        self.log_dict(figures, prog_bar=True, batch_size=len(batch.counts))

    def _terms(self, prediction: Prediction, batch: Sample) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, enabled=False):  # variances of SSIM need float32
            float32 = Prediction(*(plane.float() for plane in prediction))
            return composite_loss(float32, *batch[1:], self.loss_weight, self.config.loss)

    def configure_optimizers(self) -> Any:
        """Adam under the configured schedule, stepped once an iteration."""
        optimizer = Adam(self.network.parameters(), lr=self.config.schedule.high)
        scheduler = self.config.schedule.build(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
