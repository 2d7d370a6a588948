import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import REQUEST, TRUSTED, sure_network

from model.bundle import BundleError, load_bundle
from model.export import OUTPUTS, PARITY, DeployedNetwork, export_bundle, joined_heads, parity


def kind_of(network):
    return TRUSTED if network.config.spread else network.config.kind


def run(folder, counts):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(list(OUTPUTS), {"counts": counts.numpy().astype(np.uint16)})


def test_a_bundle_is_a_verified_whole(exported, probe):
    network, folder, _ = exported
    bundle = load_bundle(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", "probe.npy"]
    assert bundle.description.kind == network.config.kind
    assert bundle.description.tile_shape == network.config.tile_shape
    assert bundle.description.gains == pytest.approx(network.config.sadgs.gains)
    assert bundle.description.parameters == sum(p.numel() for p in network.parameters())
    assert bundle.description.output_ranges["amplitude"] == (0, 1.5)
    assert bundle.description.training["seed"] == 1
    np.testing.assert_array_equal(bundle.probe, probe)


def test_the_exported_graph_gives_torchs_numbers(exported):
    _, folder, found = exported
    assert found.worst < PARITY
    assert load_bundle(folder).description.figures["parity"]["phasor"] == found.phasor


@pytest.mark.parametrize("frames", [1, 3, 64])
def test_any_number_of_frames_goes_through_at_once(exported, counts, frames):
    network, folder, _ = exported
    with torch.inference_mode():
        expected = network(counts[:frames])[:3]
    for a, b in zip(run(folder, counts[:frames]), expected, strict=True):
        assert a.shape == (frames, 1, *network.config.tile_shape)
        np.testing.assert_allclose(a, b.numpy(), atol=5e-4)


def test_the_graph_tells_how_far_each_pixel_and_each_frame_is_to_be_trusted(exported, counts):
    network, folder, found = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    told = [output.name for output in session.get_outputs()][3:]
    assert told == (["spread_rad", "residual"] if network.config.spread else [])
    assert [found.spread is None, found.residual is None] == [not told] * 2
    in_graph = session.run(None, {"counts": counts[:5].numpy().astype(np.uint16)})[3:]
    with torch.inference_mode():
        expected = DeployedNetwork(network)(counts[:5])[3:]
    for a, b in zip(in_graph, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-3)


def test_the_spread_costs_the_graph_no_convolution_of_its_own(exported):
    network, folder, _ = exported
    operators = Counter(node.op_type for node in onnx.load(folder / "model.onnx").graph.node)
    said_apart = sum(isinstance(part, torch.nn.Conv2d) for part in network.modules())
    stems = heads = network.config.steps if network.config.spread else 0  # a stem is two, two heads are one
    assert operators["Conv"] == said_apart + stems - heads


def test_joined_heads_say_what_they_said_apart_and_leave_the_network_as_it_was(probe, counts):
    network = sure_network(TRUSTED, probe)
    with torch.inference_mode():
        together, apart = joined_heads(network)(counts[:3]), network(counts[:3])
    assert network.first.sure is not None
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_graph_takes_raw_counts_and_holds_no_fourier_operator(exported):
    _, folder, _ = exported
    graph = onnx.load(folder / "model.onnx").graph
    (counts,) = graph.input
    assert counts.type.tensor_type.elem_type == onnx.TensorProto.UINT16
    assert counts.type.tensor_type.shape.dim[0].dim_param
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Conv"]
    assert not {"DFT", "STFT", "MelWeightMatrix", "Atan", "If", "Loop"} & set(operators)


def test_the_graph_names_no_file_of_the_machine_that_made_it(exported):
    _, folder, _ = exported
    content = (folder / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b".py" not in content


def test_a_masked_pixel_is_left_out_within_the_graph_too(exported, counts):
    network, folder, _ = exported
    fill = 0 if network.config.kind == "paper" else round(network.light.empty[0, 0, 16, 16].item())
    hot, filled = counts[:1].clone(), counts[:1].clone()
    hot[..., 16, 16], filled[..., 16, 16] = 65535, fill
    for a, b in zip(run(folder, hot), run(folder, filled), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)  # the filling is rounded to whole counts here


def test_another_networks_graph_does_not_pass_for_this_ones(exported, probe, counts):
    network, folder, _ = exported
    other = sure_network(kind_of(network), probe, seed=2)
    assert parity(other, folder / "model.onnx", counts.to(torch.uint16)).worst > 100 * PARITY


def test_rounding_grows_as_one_over_the_radius_and_no_more(exported):
    _, _, found = exported
    assert found.least_radius > 0.05
    assert found.phasor_as_projected <= found.phasor / found.least_radius * 1.01


def test_a_graph_that_differs_from_torch_makes_no_bundle(exported, probe, counts, tmp_path, monkeypatch):
    network, folder, _ = exported
    other = sure_network(kind_of(network), probe, seed=2)
    write_wrong_graph = partial(shutil.copy, folder / "model.onnx")
    monkeypatch.setattr("model.export.write_onnx", lambda _, __, path, ___: write_wrong_graph(path))
    with pytest.raises(BundleError, match="differs from torch"):
        export_bundle(other, probe, counts[:4], REQUEST, tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []
