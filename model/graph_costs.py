"""What a graph asks of a machine: operations, and bytes that no engine keeps from moving.

    python -m model.graph_costs FILE

prints both a frame as JSON, for programs that do without the package `onnx`.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, shape_inference

_TIMES_AND_PLUS = 2
_COUNTED = ("Conv", "MatMul")


class GraphCosts(NamedTuple):
    """What a frame takes.

    Attributes:
        operations: of convolutions and matrix products, two for each multiplication, by the type that they
            are computed in: "float32", "float16".
        moved_bytes: planes that these read and write, the counts and the tiles: what lies between can be
            fused into them. Weights are left out, as a batch shares them.
    """

    operations: dict[str, float]
    moved_bytes: float

    @property
    def all_operations(self) -> float:
        """In whatever type."""
        return sum(self.operations.values())


def graph_costs(path: Path) -> GraphCosts:
    """Count a graph.

    Args:
        path: ONNX file whose only input's first axis is the frames.

    Raises:
        ValueError: it is none.
    """
    model = _read(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    weights = {one.name: list(one.dims) for one in graph.initializer}
    planes = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes = {name: _shape(value) for name, value in planes.items()} | weights
    operations: Counter[str] = Counter()
    moved = sum(_nbytes(value) for value in (*graph.input, *graph.output))
    for node in graph.node:
        if node.op_type not in _COUNTED:
            continue
        said = planes[node.output[0]]
        operations[_dtype(said)] += _TIMES_AND_PLUS * _multiplications(node, shapes)
        moved += _nbytes(said) + sum(_nbytes(planes[name]) for name in _reads(node) if name in planes)
    return GraphCosts({kind: float(count) for kind, count in operations.items()}, float(moved))


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX file, or damaged: {error}") from error
    if not model.graph.input:
        raise ValueError(f"{path} holds no network that takes anything: was it copied whole?")
    return model


def _multiplications(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return outputs * math.prod(shapes[node.input[1]][1:])
    return outputs * shapes[node.input[1]][-2]


def _reads(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads that may be planes; a convolution's other inputs are weights."""
    return [node.input[0]] if node.op_type == "Conv" else list(node.input)


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or TensorProto.FLOAT))


def _nbytes(value: onnx.ValueInfoProto) -> int:
    kind: Any = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or TensorProto.FLOAT)
    return math.prod(_shape(value)) * int(kind.itemsize)


@click.command(
    epilog="""\b
Example:
  python -m model.graph_costs bundles/star-gpu/model-gpu.onnx"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(file: Path) -> None:
    """Print what a frame of a graph takes."""
    try:
        costs = graph_costs(file)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(msgspec.json.encode(costs._asdict()))


if __name__ == "__main__":
    command()
