"""TensorRT for RTX parses and builds what is shipped; it needs no GPU for that."""

import onnx
import pytest

from model.bundle import BUNDLES, load_bundle

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

BATCHES = (1, 16, 64)  # least, best, greatest
STRONGLY_TYPED = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def with_input_of(bundle, dtype):
    """Return a bundle's graph, its counts of another type: the first thing that it does is to cast them."""
    graph = onnx.load(bundle.onnx)
    graph.graph.input[0].type.tensor_type.elem_type = dtype
    return graph.SerializeToString()


def parsed(graph):
    """Return builder, network and what the parser has against the graph."""
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    network = builder.create_network(STRONGLY_TYPED)
    parser = trt.OnnxParser(network, builder.logger)
    parser.parse(graph)
    return builder, network, [parser.get_error(k).desc() for k in range(parser.num_errors)]


@pytest.fixture(params=sorted(BUNDLES.glob("*/model.json")), ids=lambda path: path.parent.name)
def shipped(request):
    return load_bundle(request.param.parent)


@pytest.mark.long
def test_every_shipped_network_becomes_a_tensorrt_engine(shipped):
    builder, network, errors = parsed(with_input_of(shipped, onnx.TensorProto.INT32))
    assert errors == []
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("counts", *((frames, 1, *shipped.description.frame_shape) for frames in BATCHES))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
    outputs = {network.get_output(k).name for k in range(network.num_outputs)}
    assert outputs >= {"amplitude", "cos", "sin"}


@pytest.mark.long
def test_tensorrt_takes_no_counts_of_16_bits_so_an_engine_has_to_widen_them(shipped):
    assert shipped.description.counts_dtype == "uint16"
    _, _, errors = parsed(shipped.onnx.read_bytes())
    assert any("Dtype" in error for error in errors)
