"""Bundles with a graph for GPUs."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx

from model.bundle import Bundle, GpuDescription, file_sha256, load_bundle, write_description
from model.device_graph import device_graph


def with_gpu_graph(source: Path, folder: Path, **told: float) -> Bundle:
    """Return a copy of a bundle without convolutions, with its graph that takes bytes."""
    shutil.copytree(source, folder)
    bundle = load_bundle(folder)
    graph = device_graph(onnx.load(bundle.onnx), np.dtype(bundle.description.counts_dtype), [])
    onnx.save(graph, folder / "model-gpu.onnx")
    gpu = GpuDescription(
        onnx_sha256=file_sha256(folder / "model-gpu.onnx"), scan="tiny", frames=1, convolutions=0, of=0,
        phase_rms_rad=told.get("phase_rms_rad", 0.0), amplitude_rms=0.0,
    )  # fmt: skip
    write_description(folder, msgspec.structs.replace(bundle.description, gpu=gpu))
    return load_bundle(folder)
