"""A bundle's second graph, whose convolutions have 8 bits, and what it says of its accuracy."""

import json
import shutil

import numpy as np
import onnx
import pytest
from damage import turn_a_bit

from model.bundle import BundleError, load_bundle
from model.export import as_counts
from model.quantization import LIMIT_RAD, Trial, add_int8, painted


@pytest.fixture(scope="module")
def frames(counts):
    """Half of them tell the ranges, the phase is compared on the others."""
    measured = as_counts(counts, "uint16").numpy()
    return measured[::2], measured[1::2]


@pytest.fixture(scope="module")
def quantised(exported, frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    shutil.copytree(exported[1], folder)
    add_int8(folder, *frames, "measured.cxi")
    return load_bundle(folder)


@pytest.fixture
def trial(exported, frames, tmp_path):
    return Trial(exported[1] / "model.onnx", tmp_path, *frames)


def convolutions(graph):
    """Return how many a graph has, and those whose weights have 8 bits."""
    found = onnx.load(graph).graph
    makers = {output: node.op_type for node in found.node for output in node.output}
    nodes = [node for node in found.node if node.op_type == "Conv"]
    return len(nodes), [node.name for node in nodes if makers.get(node.input[1]) == "DequantizeLinear"]


def test_the_second_graph_says_the_same_phase_with_8_bit_convolutions(quantised, frames):
    told = quantised.description.int8
    every, int8 = convolutions(quantised.int8_onnx)
    assert (told.of, told.convolutions) == (every, len(int8))
    assert 0 < len(int8) < every
    ours, theirs = (painted(graph, frames[1]) for graph in (quantised.int8_onnx, quantised.onnx))
    assert told.phase_rms_rad == pytest.approx(np.std(np.angle(ours / theirs)), rel=0.1)
    assert told.amplitude_rms == pytest.approx(np.std(np.abs(ours) - np.abs(theirs)), rel=0.5)
    assert 0 < told.phase_rms_rad <= LIMIT_RAD


def test_the_bundle_states_what_8_bits_cost_and_on_which_frames(quantised, exported):
    told = json.loads((quantised.path / "model.json").read_text())
    assert told["int8"]["scan"] == "measured.cxi"
    assert told["int8"]["frames"] == 32
    before = json.loads((exported[1] / "model.json").read_text())
    assert told | {"int8": None} == before
    assert quantised.files == ["model.json", "model.onnx", "probe.npy", "model-int8.onnx"]


def test_what_meets_the_counts_or_the_transforms_keeps_its_32_bits(trial, exported):
    network, _, _ = exported
    meetings = 2 * network.config.steps if network.config.spread else 3  # planes and maps; two gains, skip
    assert trial.convolutions - len(trial.candidates) == meetings


def test_an_altered_second_graph_is_refused(quantised, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(quantised.path, copy)
    turn_a_bit(copy / "model-int8.onnx")
    with pytest.raises(BundleError, match=r"model-int8\.onnx has sha256 .* copied whole"):
        load_bundle(copy)
    (copy / "model-int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot read .*model-int8\.onnx"):
        load_bundle(copy)


def test_convolutions_that_hurt_most_are_given_back_until_the_phase_stays(trial):
    trial.candidates = trial.candidates[-6:]
    alone_rad = {node: trial.change([node]).phase_rad for node in trial.candidates}
    limit_rad = trial.change(trial.candidates).phase_rad * 0.7
    kept = trial.longest_within(limit_rad)
    assert 0 < len(kept) < len(trial.candidates)
    assert trial.change(kept).phase_rad <= limit_rad
    given_back = set(trial.candidates) - set(kept)
    assert max(alone_rad[node] for node in kept) <= min(alone_rad[node] for node in given_back)


def test_where_no_convolution_stays_within_the_limit_there_is_no_second_graph(trial):
    with pytest.raises(BundleError, match="no convolution"):
        trial.longest_within(-1.0)
