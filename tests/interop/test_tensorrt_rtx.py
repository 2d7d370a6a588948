"""TensorRT for RTX parses and compiles what is shipped; it needs no GPU for that."""

import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from model.bundle import BUNDLES, load_bundle
from model.device_graph import add_gpu, device_graph
from model.scans import open_scan
from service.engines.graph import checked_outputs
from service.engines.plan_cache import BatchSizes
from service.engines.tensorrt_plan import compiled, gpu_graph
from service.errors import EngineError

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

pytestmark = pytest.mark.long

STAR = Path(__file__).parents[2] / "service" / "data" / "siemens_star_aps.cxi"
BATCHES = BatchSizes(1, 16, 64)
STRONGLY_TYPED = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


@pytest.fixture(
    scope="module", params=sorted(BUNDLES.glob("*/model.json")), ids=lambda path: path.parent.name
)
def shipped(request):
    return load_bundle(request.param.parent)


@pytest.fixture(scope="module")
def for_gpus(shipped, tmp_path_factory):
    """The bundle with its graph for GPUs, as `ptycholive export --gpu` writes it."""
    folder = tmp_path_factory.mktemp("bundles") / "for-gpus"
    shutil.copytree(shipped.path, folder)
    with open_scan(STAR) as scan:
        add_gpu(folder, np.ascontiguousarray(scan.frames(slice(0, None, 64))[:, None]), STAR.name)
    return load_bundle(folder)


@pytest.fixture
def network():
    """A network that nothing was parsed into, and its parser."""
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    empty = builder.create_network(STRONGLY_TYPED)
    return empty, trt.OnnxParser(empty, builder.logger)


def errors(parser):
    return [parser.get_error(k).desc() for k in range(parser.num_errors)]


def test_every_shipped_network_becomes_a_tensorrt_engine(for_gpus):
    assert len(compiled(trt, gpu_graph(for_gpus), BATCHES)) > 1_000_000


def test_the_stream_goes_on_while_an_engine_is_compiled(for_gpus):
    done, turns = threading.Event(), []

    def stream():
        while not done.wait(1e-3):
            turns.append(None)

    beside = threading.Thread(target=stream)
    beside.start()
    compiled(trt, gpu_graph(for_gpus), BATCHES)
    done.set()
    beside.join()
    assert len(turns) > 100  # were the interpreter's lock held, there would be two or three


def test_its_counts_come_as_bytes_and_its_outputs_are_the_described_ones(for_gpus, network):
    understood, parser = network
    assert parser.parse(for_gpus.gpu_onnx.read_bytes()), errors(parser)
    counts = understood.get_input(0)
    itemsize = np.dtype(for_gpus.description.counts_dtype).itemsize
    assert counts.dtype == trt.uint8
    assert tuple(counts.shape) == (-1, 1, *for_gpus.description.frame_shape, itemsize)
    outputs = [understood.get_output(k) for k in range(understood.num_outputs)]
    assert {output.dtype for output in outputs} == {trt.float32}
    shapes = {output.name: tuple(output.shape)[1:] for output in outputs}
    assert checked_outputs(for_gpus, {"counts": tuple(counts.shape)[1:-1]}, shapes)


def test_its_convolutions_are_in_float16_and_its_transforms_in_float32(for_gpus, network):
    understood, parser = network
    assert parser.parse(for_gpus.gpu_onnx.read_bytes()), errors(parser)
    layers = [understood.get_layer(k) for k in range(understood.num_layers)]
    read = {
        kind: [layer.get_input(0).dtype for layer in layers if layer.type == kind]
        for kind in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    }
    told = for_gpus.description.gpu
    assert read[trt.LayerType.CONVOLUTION].count(trt.float16) == told.convolutions > told.of // 2
    assert set(read[trt.LayerType.MATRIX_MULTIPLY]) == {trt.float32}


@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_counts_of_other_sizes_can_be_compiled_too(shipped, tmp_path, dtype):
    graph = tmp_path / "gpu.onnx"
    onnx.save(device_graph(onnx.load(shipped.onnx), np.dtype(dtype), []), graph)
    assert len(compiled(trt, graph, BatchSizes(1, 1, 1))) > 1_000_000


def test_tensorrt_takes_no_counts_of_16_bits_so_they_have_to_come_as_bytes(shipped):
    assert shipped.description.counts_dtype == "uint16"
    with pytest.raises(EngineError, match="does not understand"):
        compiled(trt, shipped.onnx, BATCHES)
