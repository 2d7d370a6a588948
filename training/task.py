"""The Lightning module: one network, one loss, one schedule."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler

from model.likelihood import BACKGROUND_COUNTS, Diffraction, poisson_deviance
from model.losses import LossWeights, composite_loss
from model.network import NetworkConfig, Prediction
from model.probe_informed import ProbeInformedNetwork
from model.variants import build_network
from training.method import ScalarPrediction, read_out
from training.methods import METHODS
from training.simulation.factory import Sample, probe_weight_map

EMA_DECAY = 0.999  # a step: the average reaches over about the last thousand


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How the learning rate moves.

    Attributes:
        kind: "cyclic" is the paper's triangular2 between `low` and `high`; "one-cycle" warms up to `high`
            and anneals to nothing by `total_steps`; "constant" stays at `high`.
        low, high: learning rates.
        half_cycle_steps: of the cyclic schedule; the paper's six epochs, in iterations.
        total_steps: of the one-cycle schedule.
    """

    kind: Literal["cyclic", "one-cycle", "constant"] = "one-cycle"
    low: float = 1e-4
    high: float = 1e-3
    half_cycle_steps: int = 1000
    total_steps: int = 1000

    def build(self, optimizer: Optimizer) -> LRScheduler:
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
        return LambdaLR(optimizer, self._one_cycle if self.kind == "one-cycle" else lambda _: 1.0)

    def _one_cycle(self, step: int) -> float:
        """Share of `high`: up over the first twentieth of the run, then half a cosine down to nothing."""
        done = min(1.0, step / self.total_steps)
        return min(1.0, 20 * done + 0.01) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """All that a checkpoint needs to be built again, beside the probe.

    Attributes:
        network: its shape and its scaling.
        schedule: of the learning rate.
        loss: weights of the composite loss.
        method: of training.methods, with a network and a loss of its own; None: the network that the
            configuration names learns by the composite loss under the probe's weight.
        optimiser: "adam" or plain "sgd".
        ema_decay: share of the weights' moving average kept at a step; None: they are not averaged.
    """

    network: NetworkConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    method: str | None = None
    optimiser: Literal["adam", "sgd"] = "adam"
    ema_decay: float | None = None


class AveragedWeights(WeightAveraging):
    """Keep an exponential moving average of the weights; validation and checkpoints take it.

    Polyak & Juditsky, SIAM J. Control Optim. 30, 838 (1992): it takes the noise of single batches out. The
    optimiser never sees it, and a checkpoint holds the weights that learn as well.
    """

    def __init__(self, decay: float) -> None:
        """Average with this share kept at each step."""
        super().__init__(use_buffers=False, avg_fn=partial(_towards, decay))


def _towards(decay: float, average: Tensor, weights: Tensor, steps: Tensor) -> Tensor:
    """Move the average towards the weights; early on further, since it began at those of the first step."""
    kept = torch.clamp((1 + steps) / (10 + steps), max=decay)
    return torch.lerp(average, weights, (1 - kept).to(average))


class TileErrors(NamedTuple):
    """Root mean square errors of each tile, (N,).

    Attributes:
        phase_rad: of the circular phase error, radians.
        amplitude: of the amplitude; None where the network predicts phase only.
    """

    phase_rad: Tensor
    amplitude: Tensor | None


def tile_errors(estimate: ScalarPrediction, truth: Sample, weight: Tensor) -> TileErrors:
    """Return how far each tile is from the truth, in the gauge that it was learned in.

    Args:
        estimate: planes (N, 1, h, w).
        truth: of the same tiles.
        weight: (1, 1, h, w) of mean 1.
    """
    cos, sin = torch.cos(estimate.phase_rad), torch.sin(estimate.phase_rad)
    phase = torch.atan2(sin * truth.cos - cos * truth.sin, cos * truth.cos + sin * truth.sin)
    amplitude = None if estimate.amplitude is None else estimate.amplitude - truth.amplitude
    return TileErrors(_rms(phase, weight), None if amplitude is None else _rms(amplitude, weight))


def _rms(error: Tensor, weight: Tensor) -> Tensor:
    return torch.sqrt((torch.square(error) * weight).mean(dim=(1, 2, 3)))


class ReconstructionTask(lightning.LightningModule):
    """Learn tiles from diffraction patterns (gradient clipping by the trainer)."""

    loss_weight: Tensor

    def __init__(
        self, config: TaskConfig, probe: NDArray[np.complex64] | None, record: dict[str, Any] | None = None
    ) -> None:
        """Build the network.

        Args:
            config: network, schedule and loss.
            probe: (M, H, W) complex modes, kept in the checkpoint; a method of its own needs none.
            record: plain values about the run to keep in the checkpoint besides.

        Raises:
            ValueError: the probe does not fit the configuration.
        """
        super().__init__()
        self.config = config
        network, weight = _parts(config, probe)
        # torch's annotations of Module.to leave memory_format out
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("loss_weight", weight, persistent=False)
        self.probe = None if probe is None else torch.as_tensor(probe)
        tile_shape = config.network.tile_shape
        self.diffraction = None if probe is None else Diffraction(probe, tile_shape)
        self.record = record or {}

    def known_probe(self) -> NDArray[np.complex64]:
        """Return the probe (M, H, W) that the network was fitted to.

        Raises:
            ValueError: it was fitted to none.
        """
        if self.probe is None:
            raise ValueError("this network was trained on data that know no probe")
        return cast(NDArray[np.complex64], self.probe.numpy())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is needed to build the task again: plain values and the probe, nothing pickled."""
        checkpoint["ptycholive"] = {"config": asdict(self.config), "probe": self.probe, **self.record}

    def forward(self, counts: Tensor) -> Prediction | ScalarPrediction:
        """(N, 1, H, W) counts → planes (N, 1, h, w)."""
        return cast(Prediction | ScalarPrediction, self.network(counts))

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the composite loss."""
        batch = Sample(*batch)
        terms = self._terms(self(batch.counts), batch)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return terms["loss"]

    def validation_step(self, batch: Sample, _: int) -> None:
        """Log the loss and the errors that a person can read."""
        batch = Sample(*batch)
        prediction = self(batch.counts)
        errors = tile_errors(read_out(prediction), batch, self.loss_weight)
        figures = {
            "val/loss": self._terms(prediction, batch)["loss"],
            "val/phase_rms_rad": errors.phase_rad.mean(),
        }
        if errors.amplitude is not None:
            figures["val/amplitude_rms"] = errors.amplitude.mean()
        self.log_dict(figures, prog_bar=True, batch_size=len(batch.counts), sync_dist=True)

    def _terms(self, prediction: Prediction | ScalarPrediction, batch: Sample) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, enabled=False):  # variances of SSIM need float32
            planes = (None if plane is None else plane.float() for plane in prediction)
            float32 = type(prediction)(*planes)  # type: ignore[arg-type]  # None only where it may be
            if self.config.method is not None:
                return METHODS[self.config.method].loss(float32, batch)
            said = cast(Prediction, float32)
            terms = composite_loss(said, *batch[1:], self.loss_weight, self.config.loss)
            if not self.config.loss.likelihood:
                return terms
            deviance = self._deviance(said, batch)
            loss = terms["loss"] + self.config.loss.likelihood * deviance
            return {**terms, "deviance": deviance, "loss": loss}

    def _deviance(self, said: Prediction, batch: Sample) -> Tensor:
        """Return the Poisson deviance between what the detector should see of predicted and of true tiles.

        Not of the counts that went in: where they are few, a network would learn to paint their noise
        (docs/decisions/0012-likelihood-beside-labels.md).
        """
        with torch.no_grad():
            unit = torch.complex(batch.cos, batch.sin)
            true, _, valid = self.explain(batch.amplitude * unit, batch.counts)
        expected, _, _ = self.explain(complex_tiles(said), batch.counts)
        return poisson_deviance(expected, true + BACKGROUND_COUNTS, torch.ones_like(valid)).mean()

    def explain(self, tiles: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the detector should see of predicted tiles, what it saw, and where that is valid.

        Args:
            tiles: (N, 1, h, w) complex.
            counts: (N, 1, H, W) photons a pixel that they were predicted from.

        Returns:
            Expected and measured photons a pixel, and bool, each (N, 1, H, W).

        Raises:
            ValueError: the task knows no probe.
        """
        if self.diffraction is None:
            raise ValueError("counts are explained by a probe, and this network knows none")
        outside: Tensor | float = 1.0
        if isinstance(self.network, ProbeInformedNetwork):
            outside = torch.sqrt(self.network.strength(counts))
        return self.diffraction(tiles, outside), counts, self.valid_pixels(counts)

    def valid_pixels(self, counts: Tensor) -> Tensor:
        """Return which of the counts may be used, bool of their shape: not gaps, dead or hot pixels."""
        limit = self.config.network.invalid_counts
        return torch.ones_like(counts, dtype=torch.bool) if limit is None else counts < limit

    def configure_callbacks(self) -> list[Callback]:
        """Average the weights where the configuration says so; then the average is validated and kept."""
        return [] if self.config.ema_decay is None else [AveragedWeights(self.config.ema_decay)]

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule, which steps once an iteration."""
        kind = SGD if self.config.optimiser == "sgd" else Adam
        optimizer = kind(self.network.parameters(), lr=self.config.schedule.high)
        scheduler = self.config.schedule.build(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def complex_tiles(said: Prediction) -> Tensor:
    """Return predicted tiles as complex transmission (N, 1, h, w)."""
    amplitude = said.amplitude.float()
    return torch.complex(amplitude * said.cos.float(), amplitude * said.sin.float())


def _parts(config: TaskConfig, probe: NDArray[np.complex64] | None) -> tuple[nn.Module, Tensor]:
    """Return the network and the weight (1, 1, h, w) of mean 1 of its errors."""
    if config.method is not None:
        return METHODS[config.method].build(config.network), torch.ones(1, 1, *config.network.tile_shape)
    if probe is None:
        raise ValueError("this network learns under the probe's weight, and there is no probe")
    return build_network(config.network, probe), probe_weight_map(probe, config.network.tile_shape)
