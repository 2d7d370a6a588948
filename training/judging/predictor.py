"""A model as a function of frames, whether it is a bundle's ONNX file or a checkpoint of `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from model.bundle import Bundle, BundleError, file_sha256, find_bundle, load_bundle
from training.checkpoint import Checkpoint, CheckpointError, load_task, read_checkpoint
from training.method import read_out
from training.record import plan_of, training_record
from training.task import ReconstructionTask

Float32 = NDArray[np.float32]
Predict = Callable[[Float32], tuple[Float32 | None, Float32]]
"""Counts (B, 1, H, W) → amplitude (B, h, w), None without, and phase (B, h, w), radians."""

_OUTPUTS = ("amplitude", "cos", "sin")
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


def count_macs(network: torch.nn.Module, frame_shape: tuple[int, int]) -> int:
    """Return the multiplications with addition that one frame takes, in convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network.eval()(torch.zeros(1, 1, *frame_shape))
    return round(counter.get_total_flops() * _MACS_OF_A_FLOP)


def _of_bundle(bundle: Bundle) -> Predictor:
    told = bundle.description
    not_shown = tuple(told.training.get("not_shown_in_training", ()))
    return Predictor(
        name=told.name,
        predict=_predict_with_onnx(bundle),
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
    )


def _predict_with_onnx(bundle: Bundle) -> Predict:
    try:
        import onnxruntime  # of the extra `cpu`: whoever evaluates checkpoints need not have it
    except ImportError as error:
        raise BundleError("running a bundle needs onnxruntime: pip install 'ptycholive[cpu]'") from error
    session = onnxruntime.InferenceSession(bundle.onnx, providers=["CPUExecutionProvider"])
    dtype = np.dtype(bundle.description.counts_dtype)
    limits = np.iinfo(dtype)

    def predict(counts: Float32) -> tuple[Float32 | None, Float32]:
        whole = np.clip(np.rint(counts), limits.min, limits.max).astype(dtype)
        amplitude, cos, sin = (plane[:, 0] for plane in session.run(_OUTPUTS, {"counts": whole}))
        return amplitude, np.arctan2(sin, cos)

    return predict


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
    )


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
