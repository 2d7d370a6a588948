"""A small instrument for all tests: a bundle whose network can be checked by hand, and a scan for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import processes as beside
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from model.bundle import (
    Bundle,
    BundleDescription,
    ProbeDescription,
    TrustDescription,
    file_sha256,
    load_bundle,
    write_description,
)
from model.optics import far_field
from model.scans import write_scan
from service.engines.onnxruntime import OnnxRuntimeEngine

FRAME, TILE = 32, 16
OBJECT_PIXEL_M = 1e-8
WAVELENGTH_M, DETECTOR_PIXEL_M = 1e-10, 75e-6
DISTANCE_M = OBJECT_PIXEL_M * FRAME * DETECTOR_PIXEL_M / WAVELENGTH_M
SIDE = 8  # scan positions along each side of the raster
STEP_PX = 4

BundleMaker = Callable[..., Path]


def write_graph(path: Path, frame: int, tile: int, gain: float, batch: str | int, doubts: bool) -> None:
    """Write a network that says amplitude = gain · counts / mean counts in the centre, cos = 1, sin = 0.

    A frame without a single count gives 0 / 0. With doubts it also says spread_rad = counts / mean counts and
    residual = a thousandth of the counts in the corner pixel.
    """
    first, stop = frame // 2 - tile // 2, frame // 2 - tile // 2 + tile
    constants = {
        "starts": np.array([first, first]), "ends": np.array([stop, stop]), "axes": np.array([2, 3]),
        "gain": np.float32(gain), "one": np.float32(1), "none": np.float32(0),
    }  # fmt: skip
    planes, numbers = ["amplitude", "cos", "sin"], []
    nodes = [
        helper.make_node("Cast", ["counts"], ["photons"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["photons"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Slice", ["photons", "starts", "ends", "axes"], ["centre"]),
        helper.make_node("Div", ["centre", "mean"], ["relative"]),
        helper.make_node("Mul", ["relative", "gain"], ["amplitude"]),
        helper.make_node("Mul", ["centre", "none"], ["sin"]),
        helper.make_node("Add", ["sin", "one"], ["cos"]),
    ]
    if doubts:
        planes, numbers = [*planes, "spread_rad"], ["residual"]
        constants |= {"origin": np.array([0, 0]), "next": np.array([1, 1]), "thousandth": np.float32(1e-3)}
        nodes += [
            helper.make_node("Identity", ["relative"], ["spread_rad"]),
            helper.make_node("Slice", ["photons", "origin", "next", "axes"], ["corner"]),
            helper.make_node("ReduceMean", ["corner"], ["corner_counts"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["corner_counts", "thousandth"], ["residual"]),
        ]
    shapes = [(name, [batch, 1, tile, tile]) for name in planes] + [(name, [batch]) for name in numbers]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("counts", TensorProto.UINT16, [batch, 1, frame, frame])],
        outputs,
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def tiny_probe(frame: int = FRAME) -> NDArray[np.complex64]:
    """Return one round mode, (1, H, W), of some 20 000 photons."""
    y, x = np.mgrid[:frame, :frame] - frame // 2
    return (25 * np.exp(-(x**2 + y**2) / (2 * 4.0**2))).astype(np.complex64)[None]


def write_bundle(
    folder: Path,
    name: str = "tiny",
    *,
    frame: int = FRAME,
    tile: int = TILE,
    gain: float = 1.0,
    batch: str | int = "n",
    counts_dtype: str = "uint16",
    object_pixel_m: float = OBJECT_PIXEL_M,
    doubts: bool = False,
    trust: TrustDescription | None = None,
) -> Path:
    """Write a whole bundle and return its folder."""
    path = folder / name
    path.mkdir(parents=True)
    write_graph(path / "model.onnx", frame, tile, gain, batch, doubts)
    np.save(path / "probe.npy", tiny_probe(frame))
    description = BundleDescription(
        name=name, kind="test", onnx_sha256=file_sha256(path / "model.onnx"), frame_shape=(frame, frame),
        tile_shape=(tile, tile), counts_dtype=counts_dtype,
        invalid_counts=65535.0, detector_saturation=65534.0,
        clip_level=4095.0, percentile=99.5, percentile_counts=100.0, gains=(1.0, 16.0),
        object_pixel_m=object_pixel_m,
        output_ranges={"amplitude": (0.0, 1e6), "cos": (-1.0, 1.0), "sin": (-1.0, 1.0)},
        probe=ProbeDescription(sha256=file_sha256(path / "probe.npy"), modes=1), parameters=0, training={},
        figures={}, trust=trust,
    )  # fmt: skip
    write_description(path, description)
    return path


def raster_m() -> NDArray[np.float64]:
    """Return the (64, 2) probe centres y, x of the small scan, metres."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * STEP_PX
    return np.stack([rows.ravel(), columns.ravel()], axis=1) * OBJECT_PIXEL_M


def simulated_counts() -> NDArray[np.uint16]:
    """Return (64, 32, 32) counts: a smooth random phase object, seen with the probe, counted by Poisson."""
    dice = np.random.default_rng(7)
    side = FRAME + SIDE * STEP_PX
    phase = np.kron(dice.normal(0, 0.7, (side // 8, side // 8)), np.ones((8, 8)))
    transmission = np.exp(1j * phase)
    corners = np.round(raster_m() / OBJECT_PIXEL_M).astype(int)
    tiles = np.stack([transmission[y : y + FRAME, x : x + FRAME] for y, x in corners])
    return dice.poisson(far_field(tiny_probe(), tiles)).astype(np.uint16)


@pytest.fixture(scope="session")
def bundle_maker() -> BundleMaker:
    """Return what writes a small bundle: (folder, name, frame, tile, gain, …) → its path."""
    return write_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of 32² frames and 16² tiles, made without torch."""
    return write_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def loaded_bundle(tiny_bundle: Path) -> Bundle:
    """Return the small bundle, verified."""
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="session")
def tiny_engine(loaded_bundle: Bundle) -> OnnxRuntimeEngine:
    """Return a real engine that runs the small bundle."""
    return OnnxRuntimeEngine(loaded_bundle, threads=1)


@pytest.fixture(scope="session")
def tiny_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a simulated scan file of 64 frames for the small bundle."""
    path = tmp_path_factory.mktemp("scans") / "tiny.cxi"
    write_scan(
        path,
        simulated_counts(),
        raster_m(),
        wavelength_m=WAVELENGTH_M,
        distance_m=DISTANCE_M,
        detector_pixel_m=DETECTOR_PIXEL_M,
    )
    return path


@pytest.fixture(scope="session")
def processes() -> ModuleType:
    """Return what starts services and detectors as processes of their own, `tools/processes.py`."""
    return beside


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start services as processes of their own; they end with the file."""
    with beside.services(lambda: tmp_path_factory.mktemp("service")) as start:
        yield start
