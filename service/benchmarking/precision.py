"""Bundles on every engine and in every precision of the CPU, in turns: how fast, and how far from float32.

    python -m service.benchmarking.precision SCAN BUNDLE...

The phase is compared with that of the first bundle in float32 on ONNX Runtime, over all pixels of the tiles.
With OpenVINO, what convolutions take of the first bundle's time says how much fewer bits of theirs can win.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from model.bundle import BundleError, find_bundle, load_bundle
from model.scans import ScanFileError, open_scan
from service.benchmarking.race import inferring, race
from service.benchmarking.timing import BATCH
from service.engine import Engine
from service.engines.choice import choose_engine
from service.errors import EngineError

_WARM: Final = 3  # runs, of which the last is profiled
ENGINES: Final = ("onnxruntime", "openvino", "openvino-bf16", "openvino-int8")


def started(bundle: str, threads: int) -> Iterator[Engine]:
    """Start every engine that can run a bundle here; say of the others why not."""
    verified = load_bundle(find_bundle(bundle))
    for name in ENGINES:
        try:
            yield choose_engine(verified, name, threads).engine
        except (EngineError, ModuleNotFoundError) as error:
            click.echo(f"{bundle}: not {name}: {error}")


def phase_change_rad(engine: Engine, other: Engine, frames: NDArray[Any]) -> float:
    """Return the root mean square difference of what two engines say of the phase of frames (n, H, W)."""
    changes_rad = []
    for k in range(0, len(frames), BATCH):
        ours, theirs = (one.infer(frames[k : k + BATCH, None]) for one in (engine, other))
        changes_rad.append(np.angle((ours.cos + 1j * ours.sin) * (theirs.cos - 1j * theirs.sin)))
    return float(np.sqrt(np.square(np.concatenate(changes_rad)).mean()))


def convolutions_share(graph: Path, frames: NDArray[Any], threads: int) -> float:
    """Return what share of a graph's time its convolutions take in float32 on OpenVINO, for frames (n, H, W).

    However few bits they have, the graph gets no faster than 1 / (1 − share) times.

    Raises:
        ModuleNotFoundError: OpenVINO is not installed.
    """
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    for _ in range(_WARM):
        request.infer({"counts": frames[:BATCH, None]})
    took = [(part.node_type, part.real_time.total_seconds()) for part in request.get_profiling_info()]
    convolutions_s: float = sum(s for kind, s in took if kind == "Convolution")
    all_s: float = sum(s for _, s in took)
    return convolutions_s / all_s


@click.command()
@click.argument("scan", type=click.Path(exists=True, path_type=Path))
@click.argument("bundles", nargs=-1, required=True)
@click.option("--threads", default=1, show_default=True, help="Of each engine.")
@click.option("--frames", default=64, show_default=True, help="Of the scan, evenly spread.")
@click.option("--rounds", default=5, show_default=True, help="Times each takes its turn.")
def command(scan: Path, bundles: Sequence[str], threads: int, frames: int, rounds: int) -> None:
    """Race bundles over a scan in every precision, and tell how much each changes the phase."""
    try:
        with open_scan(scan) as opened:
            counts = opened.frames(slice(None, None, max(1, len(opened) // frames)))[:frames]
        engines = {f"{name}, {one.backend}": one for name in bundles for one in started(name, threads)}
    except (ScanFileError, BundleError) as error:
        raise click.UsageError(str(error)) from error
    runs = {name: inferring(engine, counts) for name, engine in engines.items()}
    first, *_ = engines
    faster = race(runs, rounds, engines, lambda _: None)[first]["times_as_fast"]
    click.echo(f"beside {first}:")
    for name in list(engines)[1:]:
        times, change_rad = faster[name], phase_change_rad(engines[name], engines[first], counts)
        click.echo(
            f"{name}: {times['clock']:.2f} ({times['processor_time']:.2f}) × as fast, "
            f"phase {change_rad:.1e} rad"
        )
    with suppress(ModuleNotFoundError):
        share = convolutions_share(load_bundle(find_bundle(bundles[0])).onnx, counts, threads)
        click.echo(
            f"convolutions take {share:.0%} of {bundles[0]} on OpenVINO: "
            f"without them it were {1 / (1 - share):.2f} × as fast"
        )


if __name__ == "__main__":
    command()
