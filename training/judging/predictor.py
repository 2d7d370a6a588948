"""A model as a function of frames, whether it is a bundle's ONNX file or a checkpoint of `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from model.bundle import Bundle, BundleError, TrustDescription, file_sha256, find_bundle, load_bundle
from model.network import Prediction
from model.probe_informed import ProbeInformedNetwork
from training.checkpoint import Checkpoint, CheckpointError, load_task, read_checkpoint
from training.judging.calibration import calibrate_trust
from training.judging.said import Said
from training.method import ScalarPrediction, read_out
from training.record import plan_of, training_record
from training.task import ReconstructionTask

Float32 = NDArray[np.float32]
Predict = Callable[[Float32], Said | tuple[Float32 | None, Float32]]
"""Counts (B, 1, H, W) → amplitude (B, h, w), None without, and phase (B, h, w), radians; or more."""

CALIBRATION_TILES = 32  # of each family of objects: what says when a checkpoint is to be believed
_OUTPUTS = ("amplitude", "cos", "sin")
_DOUBTS = ("spread_rad", "residual")  # a graph may have them
_MACS_OF_A_FLOP = 0.5  # torch counts a multiplication and an addition as two


@dataclass(frozen=True, slots=True, eq=False)
class Predictor:
    """A trained network and what is known of it.

    Attributes:
        name: of the model.
        predict: the network.
        probe: (M, H, W) complex64 modes that it was fitted to, square-root photons a pixel; None without.
        frame_shape, tile_shape: (H, W) in and (h, w) out, pixels; the tile is centred on the probe.
        object_pixel_m: of the tiles, metres, None where it is not known.
        cost: what it takes to run it, by name.
        origin: what it is and how it was trained, by name.
        not_shown: families of objects that it has not learned from.
        tell: the network with all that it says of its own tiles; None: it is not asked.
        calibrate: returns when it is to be believed, None where nobody knows; a checkpoint finds out now.
    """

    name: str
    predict: Predict
    probe: NDArray[np.complex64] | None
    frame_shape: tuple[int, int]
    tile_shape: tuple[int, int]
    object_pixel_m: float | None
    cost: dict[str, str]
    origin: dict[str, str]
    not_shown: tuple[str, ...]
    tell: Callable[[Float32], Said] | None = None
    calibrate: Callable[[], TrustDescription | None] = lambda: None

    @property
    def fullest(self) -> Predict:
        """The function that says most."""
        return self.tell or self.predict


def open_model(word: str) -> Predictor:
    """Open a checkpoint, or a bundle by its folder or the name of a shipped one.

    Raises:
        CheckpointError: a file that is no checkpoint of `train`.
        BundleError: no such bundle, one that is damaged, or onnxruntime is not installed.
    """
    path = Path(word)
    if path.is_file():
        return _of_checkpoint(read_checkpoint(path))
    return _of_bundle(load_bundle(find_bundle(word)))


def predict_with(network: torch.nn.Module) -> Predict:
    """Return a torch network as a function of arrays; it is put into evaluation mode."""
    network.eval()

    def predict(counts: Float32) -> tuple[Float32 | None, Float32]:
        with torch.inference_mode():
            amplitude, phase_rad = read_out(network(torch.as_tensor(counts)))
        modulus = None if amplitude is None else amplitude[:, 0].float().numpy()
        return modulus, phase_rad[:, 0].float().numpy()

    return predict


def tell_with(network: torch.nn.Module) -> Callable[[Float32], Said]:
    """Return a torch network with all that it says as a function; it is put into evaluation mode."""
    network.eval()

    def tell(counts: Float32) -> Said:
        with torch.inference_mode():
            return _said(network, torch.as_tensor(counts))

    return tell


def _said(network: torch.nn.Module, counts: torch.Tensor) -> Said:
    residual: torch.Tensor | None = None
    prediction: Prediction | ScalarPrediction
    if isinstance(network, ProbeInformedNetwork):
        prediction, residual = network.explained(counts)
    else:
        prediction = network(counts)
    amplitude, phase_rad = read_out(prediction)
    said = Said(None if amplitude is None else _plane(amplitude), _plane(phase_rad))
    if not isinstance(prediction, Prediction):
        return said
    spread_rad = prediction.spread_rad
    return said._replace(
        spread_rad=None if spread_rad is None else _plane(spread_rad),
        residual=None if residual is None else residual.float().numpy(),
        radius=_plane(torch.hypot(prediction.raw_cos, prediction.raw_sin)),
    )


def _plane(values: torch.Tensor) -> Float32:
    """Return a plane (B, 1, h, w) as (B, h, w)."""
    return values[:, 0].float().numpy()


def count_macs(network: torch.nn.Module, frame_shape: tuple[int, int]) -> int:
    """Return the multiplications with addition that one frame takes, in convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network.eval()(torch.zeros(1, 1, *frame_shape))
    return round(counter.get_total_flops() * _MACS_OF_A_FLOP)


def _of_bundle(bundle: Bundle) -> Predictor:
    told = bundle.description
    not_shown = tuple(told.training.get("not_shown_in_training", ()))
    tell = _tell_with_onnx(bundle)
    return Predictor(
        name=told.name,
        predict=lambda counts: tell(counts)[:2],
        probe=bundle.probe,
        frame_shape=told.frame_shape,
        tile_shape=told.tile_shape,
        object_pixel_m=told.object_pixel_m,
        cost={
            "runs on": "onnxruntime, CPU",
            "parameters": f"{told.parameters:,}",
            "ONNX file": f"{bundle.onnx.stat().st_size / 1e6:.2f} MB",
        },
        origin={
            "model": f"{told.name}, a bundle of kind {told.kind}",
            "sha256 of the ONNX file": told.onnx_sha256,
            **_training_in_words(told.training, not_shown),
        },
        not_shown=not_shown,
        tell=tell,
        calibrate=lambda: told.trust,
    )


def _tell_with_onnx(bundle: Bundle) -> Callable[[Float32], Said]:
    try:
        import onnxruntime  # of the extra `cpu`: whoever evaluates checkpoints need not have it
    except ImportError as error:
        raise BundleError("running a bundle needs onnxruntime: pip install 'ptycholive[cpu]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as many as what it is compared with
    session = onnxruntime.InferenceSession(bundle.onnx, options, providers=["CPUExecutionProvider"])
    dtype = np.dtype(bundle.description.counts_dtype)
    limits = np.iinfo(dtype)
    there = {output.name for output in session.get_outputs()}
    doubts = tuple(name for name in _DOUBTS if name in there)

    def tell(counts: Float32) -> Said:
        whole = np.clip(np.rint(counts), limits.min, limits.max).astype(dtype)
        planes = session.run((*_OUTPUTS, *doubts), {"counts": whole})
        amplitude, cos, sin, *rest = (plane[:, 0] if plane.ndim > 1 else plane for plane in planes)
        return Said(amplitude, np.arctan2(sin, cos), **dict(zip(doubts, rest, strict=True)))

    return tell


def _of_checkpoint(checkpoint: Checkpoint) -> Predictor:
    task = load_task(checkpoint).eval()
    shape = checkpoint.config.network
    training = _training_of(checkpoint)
    not_shown = tuple(training.get("not_shown_in_training", ()))
    return Predictor(
        name=f"{checkpoint.path.parent.name}/{checkpoint.path.name}",
        predict=predict_with(task.network),
        probe=checkpoint.probe,
        frame_shape=shape.frame_shape,
        tile_shape=shape.tile_shape,
        object_pixel_m=None,
        cost=_cost_in_torch(task, shape.frame_shape),
        origin={
            "model": f"{checkpoint.path}, a checkpoint of kind {shape.kind} after {checkpoint.steps:,} steps",
            "sha256 of the checkpoint": file_sha256(checkpoint.path),
            **_training_in_words(training, not_shown),
        },
        not_shown=not_shown,
        tell=tell_with(task.network),
        calibrate=cache(partial(_calibrated, checkpoint, task)),
    )


def _calibrated(checkpoint: Checkpoint, task: ReconstructionTask) -> TrustDescription | None:
    """Find out when a checkpoint is to be believed, as `export` does; None where it cannot be found out."""
    if task.config.method is not None:
        return None
    try:
        return calibrate_trust(task, plan_of(checkpoint), CALIBRATION_TILES)
    except CheckpointError:  # no plan is known, so no frames like those that it learned from
        return None


def _cost_in_torch(task: ReconstructionTask, frame_shape: tuple[int, int]) -> dict[str, str]:
    parameters = sum(p.numel() for p in task.network.parameters())
    return {
        "runs on": "torch, CPU",
        "parameters": f"{parameters:,}",
        "multiply-adds a frame": f"{count_macs(task.network, frame_shape) / 1e6:,.0f} million",
    }


def _training_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return how a checkpoint was trained, as far as it says so."""
    try:
        return training_record(checkpoint, plan_of(checkpoint))
    except CheckpointError:  # it learned from labelled frames, or before plans were kept
        plan = checkpoint.record.get("plan", {})
        return {"data": f"labelled frames of {plan['data']}"} if "data" in plan else {}


def _training_in_words(training: dict[str, Any], not_shown: tuple[str, ...]) -> dict[str, str]:
    unknown = "not recorded"
    seen = training.get("samples_seen")
    return {
        "trained on": str(training.get("data", unknown)),
        "not shown in training": ", ".join(not_shown) or unknown,
        "frames seen in training": f"{seen:,}" if seen else unknown,
        "trained by": str(training.get("command") or unknown),
    }
