"""What the network is given, and a real engine that runs it."""

import json

import numpy as np
import onnx
import pytest

from model.bundle import file_sha256, load_bundle
from service.engine import engine_input
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import EngineError
from service.messages import Frame
from service.wire import dectris_v2, native
from service.wire.dectris_v2 import DectrisV2Decoder, SentSeries
from service.wire.native import NativeDecoder

U2 = np.dtype("uint16")
BAD, LARGEST = 65535, 65534


def frame_of(*counts, dtype):
    return Frame(0, np.array([counts], dtype), 0.0, 0.0, 0)


def as_input(*counts, dtype, to="uint16"):
    """Return what the network is given for one row of counts."""
    return engine_input([frame_of(*counts, dtype=dtype)], None, np.dtype(to))[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("dtype", "counts", "given"),
    [
        ("<u2", [0, 7, 65534, 65535], [0, 7, LARGEST, BAD]),
        ("<u4", [0, 7, 65535, 70000, 2**32 - 2, 2**32 - 1], [0, 7, LARGEST, LARGEST, LARGEST, BAD]),
        ("<u1", [0, 7, 254, 255], [0, 7, 254, BAD]),
        ("<f4", [0.4, 6.5, 7.5, -3.0, 1e20, np.nan, np.inf], [0, 6, 8, 0, LARGEST, BAD, BAD]),
    ],
)
def test_every_pixel_type_becomes_16_bit_counts_with_one_sign_for_bad_pixels(dtype, counts, given):
    assert as_input(*counts, dtype=dtype) == given


@pytest.mark.parametrize(("to", "bad"), [("uint8", 255), ("uint32", 2**32 - 1)])
@pytest.mark.parametrize(("dtype", "sentinel"), [("<u2", 65535), ("<u4", 2**32 - 1), ("<f4", np.nan)])
def test_a_model_of_another_counts_type_gets_its_own_sign_for_bad_pixels(dtype, sentinel, to, bad):
    assert as_input(9, 60000, sentinel, dtype=dtype, to=to) == [9, min(60000, bad - 1), bad]


def test_masked_pixels_read_as_bad_in_every_frame_of_a_batch():
    mask = np.array([[False, True, False]])
    frames = [frame_of(n, n, n, dtype="<u2") for n in (1, 2)]
    assert engine_input(frames, mask, U2)[:, 0, 0].tolist() == [[1, BAD, 1], [2, BAD, 2]]


def test_a_batch_does_not_write_into_the_frames_it_is_made_of():
    frame = frame_of(1, 2, 3, dtype="<u2")
    engine_input([frame], np.array([[True, True, True]]), U2)
    assert frame.counts.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("dtype", "sentinel"), [("<u4", 2**32 - 1), ("<u1", 255)])
def test_the_masked_pixels_of_a_dectris_stream_reach_the_network_as_bad(dtype, sentinel):
    counts = np.random.default_rng(1).poisson(20, (32, 32)).astype(dtype)
    counts[3] = sentinel
    start = dectris_v2.ScanStart("s", (32, 32), np.dtype(dtype))
    decoder, series = DectrisV2Decoder(), SentSeries(start, 1)
    decoder.decode(dectris_v2.encode_start(series), 0)
    (image,) = decoder.decode(dectris_v2.encode_image(series, 0, counts, "bslz4"), 0)
    given = engine_input([Frame(0, image.counts, 0.0, 0.0, 0)], None, U2)[0, 0]
    assert (given[3] == BAD).all()
    assert np.array_equal(np.delete(given, 3, axis=0), np.delete(counts, 3, axis=0))


def test_the_gaps_of_a_stream_of_floats_reach_the_network_as_bad():
    counts = np.full((1, 32, 32), 4.0, "<f4")
    counts[0, 5] = np.nan
    decoder = NativeDecoder()
    decoder.decode(native.encode_start(native.ScanStart("s", (32, 32), np.dtype("<f4"))), 0)
    (image,) = decoder.decode(native.encode_frames("s", 0, counts, "raw"), 0)
    given = engine_input([Frame(0, image.counts, 0.0, 0.0, 0)], None, U2)[0, 0]
    assert set(given[5]) == {BAD}
    assert set(np.delete(given, 5, axis=0).ravel()) == {4}


@pytest.mark.parametrize("frames", [1, 3, 16])
def test_the_engine_says_what_the_network_says_whatever_the_size_of_the_batch(tiny_engine, tiny_file, frames):
    counts = tiny_file.frames(slice(0, frames))
    amplitude, cos, sin, residual = tiny_engine.infer(counts[:, None])
    assert residual is None
    assert amplitude.shape == cos.shape == sin.shape == (frames, 16, 16)
    by_hand = counts[:, 8:24, 8:24] / counts.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(amplitude, by_hand, rtol=1e-5)
    assert (set(cos.ravel()), set(sin.ravel())) == ({1.0}, {0.0})


@pytest.mark.parametrize("frames", [1, 3])
def test_a_network_that_tells_spread_and_residual_is_asked_for_the_residual(
    bundle_maker, tmp_path, tiny_file, frames
):
    engine = OnnxRuntimeEngine(load_bundle(bundle_maker(tmp_path, doubts=True)), threads=1)
    counts = tiny_file.frames(slice(0, frames))
    said = engine.infer(counts[:, None])
    assert said._fields == ("amplitude", "cos", "sin", "residual")
    np.testing.assert_allclose(said.residual, counts[:, 0, 0] * 1e-3, rtol=1e-6)
    assert said.residual.shape == (frames,)


def test_a_graph_whose_residual_is_not_one_number_a_frame_is_refused(bundle_maker, tmp_path):
    path = bundle_maker(tmp_path, doubts=True)
    graph = onnx.load(path / "model.onnx")
    other = {"spread_rad": "residual", "residual": "spread_rad"}
    for node in graph.graph.node:
        node.output[:] = [other.get(name, name) for name in node.output]
    for output in graph.graph.output:
        output.name = other.get(output.name, output.name)
    onnx.save(graph, path / "model.onnx")
    with pytest.raises(EngineError, match=r"gives .*'residual': \(1, 16, 16\)"):
        OnnxRuntimeEngine(retold(path, onnx_sha256=file_sha256(path / "model.onnx")), threads=1)


@pytest.mark.parametrize(
    "counts", [np.zeros((1, 1, 32, 40), U2), np.zeros((1, 1, 32, 32), np.float32), np.zeros((1, 32, 32), U2)]
)
def test_counts_that_the_graph_does_not_take_are_an_engine_error_of_one_line(tiny_engine, counts):
    with pytest.raises(EngineError, match="does not run") as caught:
        tiny_engine.infer(counts)
    assert "\n" not in str(caught.value)


def retold(path, **changes):
    """Change what a bundle says of itself, and load it."""
    told = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(told | changes))
    return load_bundle(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tile_shape": [8, 8]}, "gives"),
        ({"counts_dtype": "uint32"}, "does not run"),
        ({"counts_dtype": "banana"}, "not uint8 or uint16 or uint32"),
        ({"counts_dtype": "float32"}, "not uint8 or uint16 or uint32"),
    ],
)
def test_a_graph_that_is_not_the_one_described_is_refused(bundle_maker, tmp_path, changes, reason):
    bundle = retold(bundle_maker(tmp_path), **changes)
    with pytest.raises(EngineError, match=reason):
        OnnxRuntimeEngine(bundle, threads=1)


def test_a_graph_of_another_frame_shape_is_refused(bundle_maker, tmp_path):
    wide, narrow = bundle_maker(tmp_path, "wide", frame=64), bundle_maker(tmp_path, "narrow")
    bundle = load_bundle(wide)
    (wide / "model.onnx").write_bytes((narrow / "model.onnx").read_bytes())
    with pytest.raises(EngineError, match=r"takes .*32.* says \(64, 64\)"):
        OnnxRuntimeEngine(bundle, threads=1)


@pytest.mark.parametrize("frames", [1, 16])
def test_a_graph_for_one_size_of_batch_is_refused(bundle_maker, tmp_path, frames):
    bundle = load_bundle(bundle_maker(tmp_path, batch=frames))
    with pytest.raises(EngineError, match="does not run"):
        OnnxRuntimeEngine(bundle, threads=1)


def test_a_file_that_is_no_network_is_refused_in_one_line(bundle_maker, tmp_path):
    bundle = load_bundle(bundle_maker(tmp_path))
    bundle.onnx.write_bytes(b"no network")
    with pytest.raises(EngineError, match="does not load") as caught:
        OnnxRuntimeEngine(bundle, threads=1)
    assert "\n" not in str(caught.value)
