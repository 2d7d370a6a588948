"""A bundle's graph for a GPU: bytes instead of counts, convolutions in float16, and what that costs."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from damage import turn_a_bit
from onnx import TensorProto, helper, numpy_helper

from model.bundle import BundleError, load_bundle
from model.count_bytes import as_bytes
from model.device_graph import LARGEST, add_gpu, device_graph, small_convolutions
from model.export import as_counts, write_onnx
from model.network import valid_counts
from model.quantization import LIMIT_RAD, painted
from model.sadgs import Sadgs, SadgsConfig

DTYPES = ("uint8", "uint16", "uint32")


@pytest.fixture(scope="module")
def frames(counts):
    return np.ascontiguousarray(as_counts(counts, "uint16").numpy()[1::2])


@pytest.fixture(scope="module")
def on_device(exported, frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    shutil.copytree(exported[1], folder)
    add_gpu(folder, frames, "measured.cxi")
    return load_bundle(folder)


def run(model, **inputs):
    """Return the first output of a graph on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


class Scaled(torch.nn.Module):
    """What every network does first: it fills pixels that are invalid, and scales by SADGS."""

    def __init__(self, invalid_counts):
        super().__init__()
        self.invalid_counts = invalid_counts
        self.sadgs = Sadgs(SadgsConfig(percentile_counts=1014.0, clip_level=1e12))

    def forward(self, counts):
        return (self.sadgs(valid_counts(counts, self.invalid_counts, 0.0)),)


def telling_counts(dtype):
    """Return all counts of a type; of 32 bits those around every power of two, and random ones."""
    if dtype != "uint32":
        values = np.arange(np.iinfo(dtype).max + 1)
    else:
        near = [
            2**k + d for k in range(33) for d in range(-130, 131)
        ]  # among them ties of float32's rounding
        drawn = np.random.default_rng(5).integers(0, 1 << 32, 1 << 16)
        values = np.unique([*(n for n in near if 0 <= n < 1 << 32), *drawn])
    side = int(np.ceil(np.sqrt(len(values))))
    return np.resize(values.astype(dtype), (2, 1, side, side))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_scaled_to_the_bit_as_counts_are_whatever_their_type(dtype, tmp_path):
    counts = telling_counts(dtype)
    write_onnx(
        Scaled(float(np.iinfo(dtype).max)), torch.as_tensor(counts), tmp_path / "scaled.onnx", ["scaled"]
    )
    source = onnx.load(tmp_path / "scaled.onnx")
    from_bytes = run(device_graph(source, counts.dtype, []), counts=as_bytes(counts))
    from_counts = run(source, counts=counts)
    assert from_bytes.dtype == np.float32
    np.testing.assert_array_equal(from_bytes, from_counts)
    assert len(np.unique(from_counts)) > 100


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_become_bytes_without_a_copy_the_least_first(dtype):
    counts = np.array([[[[1, 258 % (np.iinfo(dtype).max + 1)]]]], dtype)
    as_they_came = as_bytes(counts)
    assert as_they_came.shape == (*counts.shape, counts.itemsize)
    assert np.shares_memory(as_they_came, counts)
    assert as_they_came[0, 0, 0, :, 0].tolist() == [1, 2]


def test_the_graph_for_a_gpu_says_the_same_phase_from_bytes(on_device, frames):
    told = on_device.description.gpu
    assert 0 < told.phase_rms_rad < LIMIT_RAD
    assert (told.scan, told.frames, told.precision) == ("measured.cxi", len(frames), "float16")
    ours, theirs = painted(on_device.gpu_onnx, as_bytes(frames)), painted(on_device.onnx, frames)
    assert np.sqrt(np.square(np.angle(ours / theirs)).mean()) < LIMIT_RAD
    assert on_device.files == ["model.json", "model.onnx", "probe.npy", "model-gpu.onnx"]


def test_the_description_of_what_was_there_before_stays(on_device, exported):
    told = json.loads((on_device.path / "model.json").read_text())
    before = json.loads((exported[1] / "model.json").read_text())
    assert told | {"gpu": None} == before


def test_a_bundle_without_a_graph_for_a_gpu_is_read_as_ever(exported, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(exported[1], folder)
    told = json.loads((folder / "model.json").read_text())
    del told["gpu"], told["int8"]
    (folder / "model.json").write_text(json.dumps(told))
    assert load_bundle(folder).gpu_onnx is None


def test_convolutions_and_their_weights_are_stored_in_float16_the_physics_in_float32(on_device):
    model = onnx.shape_inference.infer_shapes(onnx.load(on_device.gpu_onnx), strict_mode=True)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    types |= {weights.name: weights.data_type for weights in model.graph.initializer}
    told = on_device.description.gpu
    read_by = {kind: [] for kind in ("Conv", "MatMul", "Div", "Sqrt")}
    for node in model.graph.node:
        if node.op_type in read_by:
            read_by[node.op_type].append(types[node.input[0]])
    assert read_by["Conv"].count(TensorProto.FLOAT16) == told.convolutions > 0
    assert len(read_by["Conv"]) == told.of
    stored = {weights.name for weights in model.graph.initializer}
    assert all(stored.issuperset(node.input[1:]) for node in model.graph.node if node.op_type == "Conv")
    assert {*read_by["MatMul"], *read_by["Div"], *read_by["Sqrt"]} == {TensorProto.FLOAT}
    assert on_device.gpu_onnx.stat().st_size < on_device.onnx.stat().st_size


def one_convolution(weight):
    """Return a graph that casts counts and multiplies them by a number, as a convolution of one pixel."""
    shape = ["n", 1, 2, 2]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["counts"], ["photons"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["photons", "weight"], ["planes"]),
        ],
        "one convolution",
        [helper.make_tensor_value_info("counts", TensorProto.UINT16, shape)],
        [helper.make_tensor_value_info("planes", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full((1, 1, 1, 1), weight, np.float32), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_cost_is_taken_with_every_rounding_that_a_gpu_makes():
    counts = np.array([[[[3, 515], [777, 1001]]]], np.uint16)
    found = run(
        device_graph(one_convolution(1 / 3), counts.dtype, ["planes"], emulated=True), counts=as_bytes(counts)
    )
    exact = counts.astype(np.float32) * np.float32(np.float16(1 / 3))
    np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
    assert (found != exact).any()


def test_onnxruntime_by_itself_leaves_roundings_out_and_so_cannot_tell_the_cost():
    counts = np.array([[[[3, 515], [777, 1001]]]], np.uint16)
    emulated, as_it_is = (
        run(
            device_graph(one_convolution(1 / 3), counts.dtype, ["planes"], emulated=emulated),
            counts=as_bytes(counts),
        )
        for emulated in (True, False)
    )
    exact = counts.astype(np.float32) * np.float32(np.float16(1 / 3))
    assert np.abs(as_it_is - exact).max() < np.abs(emulated - exact).max()


def test_a_convolution_whose_planes_grow_large_stays_in_float32():
    counts = np.full((3, 1, 2, 2), LARGEST / 2, np.uint16)
    assert small_convolutions(one_convolution(1.0), counts) == ["planes"]
    assert small_convolutions(one_convolution(3.0), counts) == []
    assert small_convolutions(one_convolution(0.1), 4 * counts) == []


def test_a_brighter_beam_takes_convolutions_from_float16_unless_the_exposure_is_kept_out(exported, frames):
    source = onnx.load(exported[1] / "model.onnx")
    brighter = np.minimum(frames.astype(np.uint32) * 300, 65534).astype(np.uint16)
    before, after = (set(small_convolutions(source, counts)) for counts in (frames, brighter))
    if exported[0].config.exposure == "kept-out":
        assert after == before
    else:
        assert after < before


def test_counts_that_are_not_cast_first_cannot_come_as_bytes():
    model = one_convolution(1.0)
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].attribute[:]
    with pytest.raises(BundleError, match=r"does \['Identity'\] with raw counts"):
        device_graph(model, np.dtype("uint16"), [])


def test_an_altered_graph_for_a_gpu_is_refused(on_device, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(on_device.path, copy)
    turn_a_bit(copy / "model-gpu.onnx")
    with pytest.raises(BundleError, match=r"model-gpu\.onnx has sha256 .* copied whole"):
        load_bundle(copy)


def test_a_phase_that_float16_changes_too_much_is_refused(exported, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("model.device_graph.LIMIT_RAD", 0.0)
    folder = tmp_path / "bundle"
    shutil.copytree(exported[1], folder)
    with pytest.raises(BundleError, match=r"float16 changes the phase by 0\.\d+ rad on measured\.cxi"):
        add_gpu(folder, frames, "measured.cxi")
    assert load_bundle(folder).description.gpu is None
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", "probe.npy"]
