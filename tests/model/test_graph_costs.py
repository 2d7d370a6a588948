"""What a graph asks of a machine, counted."""

import json

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from model.device_graph import device_graph, small_convolutions
from model.export import write_onnx
from model.graph_costs import command, graph_costs
from training.judging.predictor import count_macs

COUNTS = np.ones((2, 1, 8, 8), np.uint16)


class Two(torch.nn.Module):
    """Two convolutions with a nonlinearity between."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 2, 1)

    def forward(self, counts):
        return (self.second(torch.relu(self.first(counts.float()))),)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("graphs") / "two.onnx"
    write_onnx(Two(), torch.as_tensor(COUNTS), path, ["planes"])
    return path


def test_operations_of_a_graph_are_those_that_torch_counts(two):
    assert graph_costs(two).operations == {"float32": 2 * count_macs(Two(), (8, 8))}


def test_bytes_are_the_counts_the_tiles_and_what_convolutions_read_and_write(two):
    pixels, float_bytes = 64, 4
    ends = 2 * pixels + 2 * pixels * float_bytes
    assert graph_costs(two).moved_bytes == ends + (1 + 4 + 4 + 2) * pixels * float_bytes


def test_float16_halves_the_bytes_between_and_is_told_apart(two, tmp_path):
    source = onnx.load(two)
    onnx.save(device_graph(source, COUNTS.dtype, small_convolutions(source, COUNTS)), tmp_path / "gpu.onnx")
    costs, before = graph_costs(tmp_path / "gpu.onnx"), graph_costs(two)
    assert costs.operations == {"float16": before.all_operations}
    ends = 64 * (2 + 2 * 4)
    assert costs.moved_bytes - ends == (before.moved_bytes - ends) / 2


def test_a_program_without_onnx_reads_them_as_json(two):
    done = CliRunner().invoke(command, [str(two)], catch_exceptions=False)
    assert json.loads(done.output)["operations"] == graph_costs(two).operations


@pytest.mark.parametrize(("content", "told"), [(b"# no graph", "is no ONNX file"), (b"", "copied whole")])
def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path, content, told):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    done = CliRunner().invoke(command, [str(path)])
    assert done.exit_code == 2
    assert told in done.output.splitlines()[-1]
