"""The graph for a GPU, beside the one for every engine: counts come as bytes, convolutions have 16 bits.

TensorRT takes bytes, but no unsigned counts of 16 or 32 bits. So they cross the bus as they came, and the
first thing that the graph does is to put them together: lo + 2¹⁶·hi, each of two bytes and so exact in
float32; their sum is rounded once, as a cast would.

TensorRT runs the types that a graph states. Convolutions compute in float16; what the physics does (scaling,
Fourier transforms, divisions, projection onto the circle) stays in float32, and so does a convolution whose
planes grow large enough that another exposure could leave float16's range.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from model.bundle import BundleError, GpuDescription, file_sha256, load_bundle, write_description
from model.count_bytes import as_bytes
from model.quantization import LIMIT_RAD, Counts, painted, tile_change

LARGEST = 1024.0
"""What a convolution in float16 may read or say on the judged frames; float16 ends at 65504."""

_CONVOLUTION = "Conv"
_CARRIED_BY = {"Relu": 1, "Resize": 1, "Add": 2, "Concat": None}  # how many of the inputs are planes
_BATCH = 4  # the planes of all layers are held at once


def add_gpu(folder: Path, judged: Counts, scan: str) -> GpuDescription:
    """Write the graph for a GPU into a bundle, with what it costs of the accuracy.

    The cost is that of every rounding to float16, carried out one after the other on the CPU; sums within a
    convolution are in float32, as tensor cores have them.

    Args:
        folder: of the bundle.
        judged: (n, 1, H, W) measured counts that the ranges are taken and the phase is compared on.
        scan: what these are of.

    Raises:
        BundleError: the bundle cannot be read, its graph does something else with the counts first than to
            cast them, or the phase changes by more than `LIMIT_RAD`.
    """
    bundle = load_bundle(folder)
    source = onnx.load(bundle.onnx)
    halved = small_convolutions(source, judged)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        emulated, graph = Path(part, "emulated.onnx"), Path(part, "gpu.onnx")
        onnx.save(device_graph(source, judged.dtype, halved, emulated=True), emulated)
        onnx.save(device_graph(source, judged.dtype, halved), graph)
        change = tile_change(painted(emulated, as_bytes(judged)), painted(bundle.onnx, judged))
        if not change.phase_rad <= LIMIT_RAD:
            raise BundleError(
                f"float16 changes the phase by {change.phase_rad:.4f} rad on {scan}, more than {LIMIT_RAD}"
            )
        told = GpuDescription(
            scan=scan,
            frames=len(judged),
            convolutions=len(halved),
            of=len(_convolutions(source.graph)),
            phase_rms_rad=change.phase_rad,
            amplitude_rms=change.amplitude,
            onnx_sha256=file_sha256(graph),
        )
        graph.replace(folder / told.file)
        write_description(folder, msgspec.structs.replace(bundle.description, gpu=told))
    return told


def device_graph(
    source: onnx.ModelProto, dtype: np.dtype[Any], halved: Collection[str], *, emulated: bool = False
) -> onnx.ModelProto:
    """Return the graph that takes bytes and computes some convolutions in float16.

    Args:
        source: takes counts (N, 1, H, W).
        dtype: of the counts.
        halved: the convolutions, by what they give.
        emulated: compute in float32 and round to float16 wherever a plane, a weight or a bias is kept. ONNX
            Runtime on the CPU has no float16 convolution: by itself it leaves such roundings out.

    Raises:
        BundleError: the graph does something else with the counts first than to cast them to float32.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    _take_bytes(model.graph, dtype.itemsize)
    _fold_weights(model.graph)
    _Halving(model.graph, halved, emulated).write()
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def small_convolutions(source: onnx.ModelProto, counts: Counts) -> list[str]:
    """Return the convolutions, by what they give, that read and say nothing beyond `LARGEST` on frames."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    nodes = _convolutions(model.graph)
    planes = {name for node in nodes for name in (node.input[0], node.output[0])}
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(planes - known))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    greatest = dict.fromkeys(planes, 0.0)
    for k in range(0, len(counts), _BATCH):
        found = session.run(list(greatest), {"counts": counts[k : k + _BATCH]})
        for name, values in zip(list(greatest), found, strict=True):
            greatest[name] = max(greatest[name], float(np.abs(values).max()))
    small = {name for name, value in greatest.items() if value <= LARGEST}
    return [node.output[0] for node in nodes if small.issuperset((node.input[0], node.output[0]))]


def _convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == _CONVOLUTION]


def _take_bytes(graph: onnx.GraphProto, itemsize: int) -> None:
    """Have the graph take (N, 1, H, W, itemsize) bytes instead of counts (N, 1, H, W)."""
    counts = graph.input[0]
    photons = f"{counts.name}/photons"
    casts = [node for node in graph.node if counts.name in node.input and _is_cast_to_float32(node)]
    others = [node for node in graph.node if counts.name in node.input and node not in casts]
    if not casts or any(node.op_type != "Shape" for node in others):
        found = sorted({node.op_type for node in others})
        raise BundleError(f"the graph does {found} with raw counts: only a cast to float32 can take bytes")
    for node in casts:
        graph.node.remove(node)
    _rename_inputs(graph, {node.output[0]: photons for node in casts} | {counts.name: photons})
    nodes, constants = _put_together(counts.name, photons, itemsize)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.extend(constants)
    counts.type.tensor_type.elem_type = TensorProto.UINT8
    counts.type.tensor_type.shape.dim.add().dim_value = itemsize


def _is_cast_to_float32(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT


def _put_together(
    counts: str, photons: str, itemsize: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return what makes float32 photons (N, 1, H, W) of bytes, and its constants.

    Pairs are summed up to 16 bits, then pairs of pairs: no sum but the last is ever rounded.
    """
    constants = {f"{photons}/axis": np.array([-1], np.int64)}
    nodes = [helper.make_node("Cast", [counts], [f"{photons}/0"], to=TensorProto.FLOAT)]
    last, weights = f"{photons}/0", {1: [], 2: [256.0], 4: [256.0, 65536.0]}[itemsize]
    if itemsize == 4:
        constants[f"{photons}/pairs"] = np.array([0, 0, 0, 0, 2, 2], np.int64)
        nodes.append(helper.make_node("Reshape", [last, f"{photons}/pairs"], [f"{photons}/of-2"]))
        last = f"{photons}/of-2"
    for k, weight in enumerate(weights, 1):
        constants[f"{photons}/weight-{k}"] = np.array([1.0, weight], np.float32)
        nodes.append(helper.make_node("Mul", [last, f"{photons}/weight-{k}"], [f"{photons}/scaled-{k}"]))
        last = f"{photons}/{k}"
        nodes.append(
            helper.make_node("ReduceSum", [f"{photons}/scaled-{k}", f"{photons}/axis"], [last], keepdims=0)
        )
    if not weights:
        nodes.append(helper.make_node("Squeeze", [last, f"{photons}/axis"], [photons]))
    nodes[-1].output[0] = photons
    for node in nodes:
        node.name = node.output[0]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _fold_weights(graph: onnx.GraphProto) -> None:
    """Have convolutions read weights that lie in the file: TensorRT wants them constant.

    The exporter leaves parts of weights to be cut out as the graph runs.
    """
    constants = {weights.name: weights for weights in graph.initializer}
    wanted = {name for node in _convolutions(graph) for name in node.input[1:]}
    for node in [node for node in graph.node if node.output[0] in wanted]:
        if not all(name in constants for name in node.input):
            continue
        given = {name: numpy_helper.to_array(constants[name]) for name in node.input}
        (value,) = ReferenceEvaluator(node).run(None, given)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), node.output[0]))
        graph.node.remove(node)


class _Halving:
    """Puts convolutions, and what carries planes from one to the next, into float16."""

    def __init__(self, graph: onnx.GraphProto, halved: Collection[str], emulated: bool) -> None:
        self._graph = graph
        self._emulated = emulated
        self._weights = {weights.name: weights for weights in graph.initializer}
        self._inside = _between(graph, halved)
        self._made = {name for node in self._inside.values() for name in node.output}
        self._halves: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def write(self) -> None:
        """Rewrite the graph."""
        others = [node for node in self._graph.node if node.output[0] not in self._inside]
        outside = {name for node in others for name in node.input}
        outside |= {output.name for output in self._graph.output}
        for node in list(self._graph.node):
            if node.output[0] not in self._inside:
                self._nodes.append(node)
                continue
            for k in range(_planes(node)):
                node.input[k] = self._half(node.input[k])
            said = node.output[0]
            self._nodes.append(node)
            self._say(node, said)
            if said in outside:
                self._cast(self._halves[said], said, TensorProto.FLOAT)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        _drop_unused(self._graph)

    def _half(self, name: str) -> str:
        """Return the name of a tensor's float16 form, made here where nobody has made it yet."""
        if name not in self._halves and name not in self._made:
            if name in self._weights and not self._emulated:
                self._halves[name] = self._half_weights(self._weights[name])
            else:
                self._halves[name] = self._rounded(name, f"{name}/half")
        return self._halves[name]

    def _half_weights(self, weights: onnx.TensorProto) -> str:
        values = numpy_helper.to_array(weights).astype(np.float16)
        self._graph.initializer.append(numpy_helper.from_array(values, f"{weights.name}/half"))
        return f"{weights.name}/half"

    def _say(self, node: onnx.NodeProto, said: str) -> None:
        """Have a node give a float16 plane, or one that is rounded to it."""
        if self._emulated:
            node.output[0] = f"{said}/exact"
            self._halves[said] = self._rounded(f"{said}/exact", f"{said}/half")
        else:
            node.output[0] = self._halves[said] = f"{said}/half"

    def _rounded(self, name: str, half: str) -> str:
        if not self._emulated:
            return self._cast(name, half, TensorProto.FLOAT16)
        return self._cast(self._cast(name, f"{half}/16", TensorProto.FLOAT16), half, TensorProto.FLOAT)

    def _cast(self, name: str, to: str, element: int) -> str:
        self._nodes.append(helper.make_node("Cast", [name], [to], name=to, to=element))
        return to


def _planes(node: onnx.NodeProto) -> int:
    """Return how many of a node's inputs, from the first, have the type of its output."""
    return _CARRIED_BY.get(node.op_type) or len(node.input)


def _between(graph: onnx.GraphProto, halved: Collection[str]) -> dict[str, onnx.NodeProto]:
    """Return the convolutions, and what only carries planes between them, by what they give."""
    inside: dict[str, onnx.NodeProto] = {}
    made: set[str] = set()
    for node in graph.node:
        carries = node.op_type in _CARRIED_BY and made.issuperset(node.input[: _planes(node)])
        if node.output[0] in halved or carries:
            inside[node.output[0]] = node
            made.update(node.output)
    for node in reversed(graph.node):  # what no convolution reads any more leaves in float32
        said = node.output[0]
        if said in inside and node.op_type != _CONVOLUTION and not _is_read(said, inside):
            del inside[said]
    return inside


def _is_read(plane: str, inside: dict[str, onnx.NodeProto]) -> bool:
    return any(plane in node.input for node in inside.values())


def _rename_inputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = names.get(name, name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = set(_all_inputs(graph))
    kept = [weights for weights in graph.initializer if weights.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _all_inputs(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.input
