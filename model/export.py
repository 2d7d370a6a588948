"""Network → ONNX → bundle, with a parity check.

Parity. The phase leaves the network as a point on the unit circle, and projecting onto the circle divides by
the radius before it: where that radius is small, float32's rounding grows without bound though both sides
computed the same. So cos and sin are compared after multiplication by that radius, at every pixel: this is
what they differed by before projection, across the radius. A trained network has a radius near 1 and nothing
is forgiven. One that has learned nothing may fail, as its second meeting with the measurement starts from
such undetermined phases.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.bundle import (
    BundleDescription,
    BundleError,
    ProbeDescription,
    TrustDescription,
    file_sha256,
    write_description,
)
from model.probe_informed import ProbeInformedNetwork, UNet
from model.variants import Network

OUTPUTS = ("amplitude", "cos", "sin")
SPREAD, RESIDUAL = "spread_rad", "residual"  # of networks that say how sure they are; that know the probe
Float32 = NDArray[np.float32]
PARITY = 1e-4  # greatest difference from torch in float32 that a bundle may have
_BATCHES = (1, 3)  # sizes that the graph is tried at, beside all examples at once


def joined_heads(network: Network) -> Network:
    """Return a network whose U-Nets say their planes and the spread by one convolution: the same numbers."""
    joined = copy.deepcopy(network)
    for module in joined.modules():
        if isinstance(module, UNet) and module.sure is not None:
            module.head = _side_by_side(module.head, module.sure)
            module.sure = None
    return joined


def _side_by_side(*convolutions: nn.Conv2d) -> nn.Conv2d:
    """Return one 3x3 convolution that gives the channels of all, one after the other."""
    outputs = sum(one.out_channels for one in convolutions)
    joined = nn.Conv2d(convolutions[0].in_channels, outputs, 3, padding=1)
    joined.load_state_dict(
        {name: torch.cat([one.state_dict()[name] for one in convolutions]) for name in joined.state_dict()}
    )
    return joined


class DeployedNetwork(nn.Module):
    """What crosses to the service: raw counts in; amplitude, cos and sin out, and their trust."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        spread = (SPREAD,) if self.network.config.spread else ()
        residual = (RESIDUAL,) if isinstance(self.network, ProbeInformedNetwork) else ()
        return *OUTPUTS, *spread, *residual

    def forward(self, counts: Tensor) -> tuple[Tensor, ...]:
        """(N, 1, H, W) counts → planes (N, 1, h, w), and (N,) where the network knows the probe."""
        residual = None
        if isinstance(self.network, ProbeInformedNetwork):
            prediction, residual = self.network.explained(counts)
        else:
            prediction = self.network(counts)
        told = (doubt for doubt in (prediction.spread_rad, residual) if doubt is not None)
        return prediction.amplitude, prediction.cos, prediction.sin, *told


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a bundle says beside the network itself; see `BundleDescription`."""

    name: str
    object_pixel_m: float
    detector_saturation: float
    training: dict[str, Any]
    figures: dict[str, Any]
    counts_dtype: str = "uint16"
    trust: TrustDescription | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported graph is from torch, the greatest difference over all pixels.

    Attributes:
        amplitude: of the amplitude.
        phasor: |Δ(cos, sin)| times torch's radius before projection.
        phasor_as_projected: the same without that factor; large where a phase is not determined.
        least_radius: before projection.
        residual: of the forward residual; None where the network gives none.
        spread: of the spread, relative to it; None where the network gives none.
    """

    amplitude: float
    phasor: float
    phasor_as_projected: float
    least_radius: float
    residual: float | None = None
    spread: float | None = None

    @property
    def worst(self) -> float:
        """What is held against `PARITY`."""
        return max(self.amplitude, self.phasor, self.residual or 0.0, self.spread or 0.0)


def export_bundle(
    network: Network, probe: NDArray[np.complex64], examples: Tensor, request: ExportRequest, out: Path
) -> Parity:
    """Write a bundle, whole or not at all, and return how near it is to torch.

    Args:
        network: trained, float32.
        probe: (M, H, W) that it was fitted to.
        examples: (N, 1, H, W) counts for the parity check, N ≥ 3.
        request: the rest of the description.
        out: the bundle's folder; made if need be.

    Raises:
        BundleError: the exported graph does not give torch's numbers.
    """
    network.eval()
    counts = as_counts(examples, request.counts_dtype)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".part-") as folder:
        part = Path(folder)
        deployed = DeployedNetwork(joined_heads(network))
        write_onnx(deployed, counts[:2], part / "model.onnx", deployed.outputs)
        found = _checked_parity(network, part / "model.onnx", counts)
        np.save(part / "probe.npy", probe.astype(np.complex64), allow_pickle=False)
        write_description(part, _describe(network, probe, request, part, found))
        for file in ("probe.npy", "model.onnx", "model.json"):
            (part / file).replace(out / file)
    return found


def as_counts(counts: Tensor, dtype: str) -> Tensor:
    """Return counts in the type that a graph takes, cut at the greatest that it holds."""
    return counts.clamp(0, np.iinfo(dtype).max).to(getattr(torch, dtype))


def parity(network: Network, path: Path, counts: Tensor) -> Parity:
    """Compare the ONNX file with torch.

    Args:
        network: in evaluation mode.
        path: of the ONNX file.
        counts: (N, 1, H, W), of the dtype that the graph takes.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    deployed = DeployedNetwork(network)
    found = _named(deployed, session.run(list(deployed.outputs), {"counts": counts.numpy()}))
    with torch.inference_mode():
        said = network(counts)
        expected = _named(deployed, [output.numpy() for output in deployed(counts)])
    radius = np.hypot(said.raw_cos.numpy(), said.raw_sin.numpy())
    chord = np.hypot(found["cos"] - expected["cos"], found["sin"] - expected["sin"])
    differences = {name: np.abs(found[name] - expected[name]) for name in found}
    return Parity(
        amplitude=float(differences["amplitude"].max()),
        phasor=float((radius * chord).max()),
        phasor_as_projected=float(chord.max()),
        least_radius=float(radius.min()),
        residual=float(differences[RESIDUAL].max()) if RESIDUAL in found else None,
        spread=float((differences[SPREAD] / expected[SPREAD]).max()) if SPREAD in found else None,
    )


def _named(deployed: DeployedNetwork, outputs: Sequence[Float32]) -> dict[str, Float32]:
    return dict(zip(deployed.outputs, outputs, strict=True))


def _checked_parity(network: Network, path: Path, counts: Tensor) -> Parity:
    """Return the parity over all examples; raise BundleError where any size of batch goes too far."""
    every = parity(network, path, counts)
    for found in (every, *(parity(network, path, counts[:n]) for n in _BATCHES)):
        if not found.worst < PARITY:
            raise BundleError(
                f"the exported graph differs from torch by {found.worst:.1e}, more than {PARITY:.0e}: "
                f"is the network trained? (least radius before projection {found.least_radius:.1e})"
            )
    return every


def write_onnx(network: nn.Module, counts: Tensor, path: Path, outputs: Sequence[str]) -> None:
    """Write a network as an ONNX file whose batches may have any size.

    Args:
        network: takes the counts and gives a tuple of tensors.
        counts: (N, 1, H, W) to trace it with.
        path: where to.
        outputs: names of what it gives.

    Raises:
        BundleError: torch cannot export it.
    """
    with _quiet_exporter():
        program = torch.onnx.export(
            network.eval(),
            (counts,),
            dynamo=True,
            verbose=False,
            optimize=True,
            input_names=["counts"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("frames")},),
        )
    if program is None:
        raise BundleError("torch gave no ONNX program")
    onnx.save(_without_traces(program.model_proto), path)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: they name source files of the machine that trained, and decide nothing."""
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter says of itself: a deprecated call of its own, and packages it misses."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(
    network: Network, probe: NDArray[np.complex64], request: ExportRequest, folder: Path, found: Parity
) -> BundleDescription:
    config = network.config
    greatest = float(np.iinfo(request.counts_dtype).max)
    return BundleDescription(
        name=request.name,
        kind=config.kind,
        onnx_sha256=file_sha256(folder / "model.onnx"),
        frame_shape=config.frame_shape,
        tile_shape=config.tile_shape,
        counts_dtype=request.counts_dtype,
        invalid_counts=greatest if config.invalid_counts is None else config.invalid_counts,
        detector_saturation=request.detector_saturation,
        clip_level=config.sadgs.clip_level,
        percentile=config.sadgs.percentile,
        percentile_counts=config.sadgs.percentile_counts,
        gains=config.sadgs.gains,
        object_pixel_m=request.object_pixel_m,
        output_ranges={"amplitude": (0.0, config.amplitude_range), "cos": (-1.0, 1.0), "sin": (-1.0, 1.0)},
        probe=ProbeDescription(sha256=file_sha256(folder / "probe.npy"), modes=len(probe)),
        parameters=sum(p.numel() for p in network.parameters()),
        training={**request.training, "network": asdict(config)},
        figures={**request.figures, "parity": asdict(found)},
        trust=request.trust,
    )
