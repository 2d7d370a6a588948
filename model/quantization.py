"""A graph whose convolutions compute with 8 bits, beside the float32 one.

Post-training quantisation (Jacob et al., CVPR 2018, eq. 1): weights symmetric, with a scale for each channel;
what goes into a convolution as 8 bits between the extremes that it took on calibration frames. What comes out
stays float32. So do the scaling of the counts, the Fourier transforms, the projection onto the circle and the
convolutions that meet the physics' own planes: to round what these see costs most of the accuracy.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from model.bundle import BundleError, Int8Description, file_sha256, load_bundle, write_description

Counts = NDArray[Any]

LIMIT_RAD = 0.01
"""How much the phase may change, root mean square over all pixels of the tiles."""

_CONVOLUTION = "Conv"
_LEARNED = (_CONVOLUTION, "Relu")
_CARRIED_BY = ("Add", "Concat", "Resize")
_BATCH = 16
_OPTIONS = {"OpTypesToExcludeOutputQuantization": [_CONVOLUTION]}


def add_int8(folder: Path, calibration: Counts, judged: Counts, scan: str) -> Int8Description:
    """Write the graph with 8-bit convolutions into a bundle, with what it costs of the accuracy.

    Args:
        folder: of the bundle.
        calibration: (n, 1, H, W) counts that tell the ranges.
        judged: (n, 1, H, W) measured counts that the phase is compared on.
        scan: what these are of.

    Raises:
        BundleError: the bundle cannot be read, or no convolution stays within `LIMIT_RAD`.
    """
    bundle = load_bundle(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
        trial = Trial(bundle.onnx, Path(part), calibration, judged)
        kept = trial.longest_within(LIMIT_RAD)
        change = trial.change(kept)
        told = Int8Description(
            scan=scan,
            frames=len(judged),
            convolutions=len(kept),
            of=trial.convolutions,
            phase_rms_rad=change.phase_rad,
            amplitude_rms=change.amplitude,
            onnx_sha256=file_sha256(trial.graph),
        )
        trial.graph.replace(folder / told.file)
        write_description(folder, msgspec.structs.replace(bundle.description, int8=told))
    return told


class Change(NamedTuple):
    """How much a graph's tiles changed, root mean square over all their pixels."""

    phase_rad: float
    amplitude: float


class Trial:
    """Quantises convolutions of one graph and tells how much its tiles change.

    Attributes:
        graph: the last that was written.
        candidates: names of the convolutions that may be quantised.
        convolutions: how many the graph has.
    """

    def __init__(self, source: Path, folder: Path, calibration: Counts, judged: Counts) -> None:
        """Take the ranges, and what the graph itself says.

        Args:
            source: the graph.
            folder: for what is tried.
            calibration: (n, 1, H, W) counts that tell the ranges.
            judged: (n, 1, H, W) counts that the tiles are compared on.
        """
        self.graph = folder / "quantised.onnx"
        self._source = source
        self._judged = judged
        self._tiles = painted(source, judged)
        self._ranges = _ranges(source, folder / "calibrated.onnx", calibration)
        graph = onnx.load(source).graph
        makers = {output: node for node in graph.node for output in node.output}
        nodes = [node for node in graph.node if node.op_type == _CONVOLUTION]
        self.convolutions = len(nodes)
        self.candidates = [node.name for node in nodes if _are_features(node.input[0], makers)]

    def change(self, nodes: Sequence[str]) -> Change:
        """Write the graph with these convolutions in 8 bits; return how much its tiles change."""
        quantizer = QDQQuantizer(
            onnx.load(self._source),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=[_CONVOLUTION],
            extra_options=_OPTIONS,
        )
        quantizer.quantize_model()
        onnx.save(quantizer.model.model, self.graph)
        return tile_change(painted(self.graph, self._judged), self._tiles)

    def longest_within(self, limit_rad: float) -> list[str]:
        """Return the convolutions that keep the phase within a limit, those left out that hurt most alone.

        Raises:
            BundleError: none does.
        """
        if self.candidates and self.change(self.candidates).phase_rad <= limit_rad:
            return self.candidates
        ranked = sorted(self.candidates, key=lambda node: self.change([node]).phase_rad)
        counts = range(1, len(ranked))
        kept = bisect_right(counts, limit_rad, key=lambda n: self.change(ranked[:n]).phase_rad)
        if not kept:
            raise BundleError(f"no convolution of {self._source} can have 8 bits within {limit_rad} rad")
        return ranked[:kept]


def tile_change(tiles: NDArray[np.complex64], reference: NDArray[np.complex64]) -> Change:
    """Return how much tiles differ from others of the same frames."""
    turned_rad = np.angle(tiles * reference.conj())
    return Change(_root_mean_square(turned_rad), _root_mean_square(np.abs(tiles) - np.abs(reference)))


def painted(graph: Path, counts: Counts) -> NDArray[np.complex64]:
    """Return the tiles that a graph tells of frames (n, 1, H, W), as it takes them: (n, 1, h, w) complex."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    parts = [session.run(["amplitude", "cos", "sin"], batch) for batch in _batches(counts)]
    tiles: NDArray[np.complex64] = np.concatenate(
        [amplitude * (cos + 1j * sin) for amplitude, cos, sin in parts]
    )
    return tiles


def _root_mean_square(change: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(change).mean()))


def _are_features(planes: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Say whether planes come out of layers that were learned, or are carried on from such."""
    maker = makers.get(planes)
    if maker is None or maker.op_type in _LEARNED:
        return maker is not None
    return maker.op_type in _CARRIED_BY and any(_are_features(name, makers) for name in maker.input)


def _ranges(source: Path, augmented: Path, counts: Counts) -> TensorsData:
    calibrator = create_calibrator(source, [_CONVOLUTION], str(augmented))
    calibrator.collect_data(_Reader(_batches(counts)))
    return calibrator.compute_data()


def _batches(counts: Counts) -> Iterator[dict[str, Counts]]:
    for k in range(0, len(counts), _BATCH):
        yield {"counts": counts[k : k + _BATCH]}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands batches to the calibrator, as it wants them."""

    def __init__(self, batches: Iterator[dict[str, Counts]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Counts] | None:
        return next(self._batches, None)
