"""All that there is to measure on a machine with a GPU, in one call.

    python -m service.benchmarking.gpu [BUNDLE...] --json gpu.json

By default the shipped bundle, on every engine for GPUs that starts; a bundle with a graph for GPUs runs in
float16 too: `ptycholive export siemens-star --out star-gpu --gpu SCAN` adds that graph. For frames of 64²
take a scan of such frames that holds its probe:

    ptycholive train --probe SCAN --tile 40 --samples 3200 --out runs/small
    ptycholive export runs/small/best.ckpt --out small --name small --gpu SCAN

Rates are of batches that overlap as they do in the service. Floors are the graph's operations over the peak
of a matrix product of that type, and the bytes of its planes over the peak of a copy; --peak-… gives a peak
by hand. Then the service streams through real sockets, as fast as it can and at --rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import numpy as np

from model.bundle import Bundle, BundleError, find_bundle, load_bundle
from service.benchmarking.end_to_end import latency, streamed
from service.benchmarking.gpu_peaks import Peaks, device_name, peaks_of
from service.benchmarking.journey import Subject, stand
from service.benchmarking.suite import machine
from service.benchmarking.timing import BATCH, Say
from service.engine import Engine, Inferred
from service.engines.choice import choose_engine
from service.engines.graph import blank_frames
from service.engines.places import GpuPlace
from service.errors import PtycholiveError
from service.pool import as_pool

ENGINES: Final = ("tensorrt", "onnxruntime-cuda")
_SHIPPED_SCAN: Final = Path(__file__).parents[1] / "data" / "siemens_star_aps.cxi"
_GREATEST: Final = 1024
_WARM_UP: Final = 12  # batches, until every lane has its graph


@dataclass(frozen=True, slots=True)
class Costs:
    """What a frame takes of a graph; see `model.graph_costs.GraphCosts`."""

    operations: dict[str, float]
    moved_bytes: float

    def floors_hz(self, peaks: Peaks) -> dict[str, float | None]:
        """Return how many frames a second operations and memory allow; None: not known."""
        known = peaks.flop_per_s
        arithmetic_s = sum(count / known.get(kind, np.nan) for kind, count in self.operations.items())
        memory_s = self.moved_bytes / (peaks.bytes_per_s or np.nan)
        return {
            name: float(1 / seconds) if seconds > 0 else None  # not where it is NaN
            for name, seconds in (("arithmetic", arithmetic_s), ("memory", memory_s))
        }


def costs_of(graph: Path) -> Costs | None:
    """Count a graph in a process of its own: the service does without the package that reads it."""
    command = [sys.executable, "-m", "model.graph_costs", str(graph)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode else Costs(**json.loads(done.stdout))


def rate_hz(engine: Engine, batch: int, seconds: float) -> float:
    """Return frames a second in batches of one size, as many on their way as the engine takes."""
    pool, counts = as_pool(engine), blank_frames(engine.bundle, batch)
    _run(pool.submit, pool.most, counts, batches=_WARM_UP)
    begun_s = time.perf_counter()
    frames = 0
    while (spent_s := time.perf_counter() - begun_s) < seconds or not frames:
        frames += _run(pool.submit, pool.most, counts, batches=2 * pool.most)
    return frames / spent_s


def _run(submit: Any, most: int, counts: Any, batches: int) -> int:
    """Have a batch run so many times; return the frames."""
    on_their_way: deque[Future[Inferred]] = deque()
    for _ in range(batches):
        if len(on_their_way) == most:
            on_their_way.popleft().result()
        on_their_way.append(submit(counts))
    for found in on_their_way:
        found.result()
    return batches * len(counts)


def batch_sizes(greatest: int) -> list[int]:
    """Return 1, 2, 4, … up to the greatest."""
    return [1 << k for k in range(greatest.bit_length()) if 1 << k <= greatest]


def measure_engine(
    bundle: Bundle, name: str, greatest: int, seconds: float, given: Peaks, say: Say
) -> dict[str, Any]:
    """Return the rates of an engine by size of batch, beside what the device allows.

    Args:
        bundle: verified; an engine on a GPU runs the graph that it takes.
        name: of the engine.
        greatest: frames of the largest batch.
        seconds: for each size.
        given: peaks that need not be measured.
        say: takes a line.

    Raises:
        PtycholiveError, ImportError: it does not start.
    """
    engine = _started(bundle, name, 1, greatest)
    graph = bundle.gpu_onnx if name.startswith("tensorrt") else bundle.onnx
    costs = None if graph is None else costs_of(graph)
    peaks = _peaks(engine.device, given, say)
    floors = {} if costs is None else costs.floors_hz(peaks)
    shape = "×".join(map(str, bundle.description.frame_shape))
    where = f"{engine.device} ({device_name(engine.device)})"
    say(f"{bundle.description.name}, {shape}, {engine.backend} on {where}; {_in_words(floors)}")
    rates = []
    for batch in batch_sizes(greatest):
        found_hz = rate_hz(_started(bundle, name, batch, greatest), batch, seconds)
        shares = {f"of_{kind}": floor and found_hz / floor for kind, floor in floors.items()}
        rates.append({"batch": batch, "rate_hz": found_hz, **shares})
        told = "".join(f"{share:>10.1%}" if share else f"{'–':>10}" for share in shares.values())
        say(f"{batch:>6}{found_hz:>12.0f} frames/s{told}")
    return {
        "bundle": bundle.description.name,
        "frame_shape": bundle.description.frame_shape,
        "engine": name,
        "backend": engine.backend,
        "device": engine.device,
        "device_name": device_name(engine.device),
        "peaks": asdict(peaks),
        "costs": None if costs is None else asdict(costs),
        "floors_hz": floors,
        "rates": rates,
    }


def _started(bundle: Bundle, name: str, batch: int, greatest: int) -> Engine:
    """Start an engine for one size of batch: none keeps CUDA graphs for all.

    TensorRT is compiled once for all sizes; ONNX Runtime makes its graph of the usual size as it starts.
    """
    usual = BATCH if name.startswith("tensorrt") else batch
    return choose_engine(bundle, name, gpu=GpuPlace(batch_frames=usual, most=greatest)).engine


def _peaks(device: str, given: Peaks, say: Say) -> Peaks:
    """Return what a device can do at best, measured as far as it is not given."""
    kinds = {"float32"} if device == "cpu" else {"float32", "float16"}
    if given.bytes_per_s is not None and kinds <= given.flop_per_s.keys():
        return given
    found = peaks_of(device, say)
    return Peaks(given.bytes_per_s or found.bytes_per_s, found.flop_per_s | given.flop_per_s)


def _in_words(floors: dict[str, float | None]) -> str:
    if not floors:
        return "floors not counted: the package onnx is not installed"
    return "floors: " + ", ".join(
        f"{kind} " + ("not known" if floor is None else f"{floor:.0f} frames/s")
        for kind, floor in floors.items()
    )


def measure_service(subject: Subject, wanted_hz: float, rounds: int, say: Say) -> dict[str, Any]:
    """Return what the whole service reaches through sockets, and how late frames are at a rate."""
    with stand(subject) as service:
        fullest_hz = median(streamed(service).rate_hz for _ in range(rounds))
        points = [latency(service, wanted_hz, subject.frames) for _ in range(rounds)]
        engine = service.app.engine
        backend, device = engine.backend, engine.device
    p50_s, p99_s = (median(point[name] for point in points) for name in ("p50_s", "p99_s"))
    say(
        f"service on {backend}, {device}: {fullest_hz:.0f} frames/s; at {wanted_hz:.0f} frames/s "
        f"p50 {p50_s * 1e3:.1f} ms, p99 {p99_s * 1e3:.1f} ms"
    )
    return {"rate_hz": fullest_hz, "at_hz": wanted_hz, "p50_s": p50_s, "p99_s": p99_s}


def measured(
    bundles: Sequence[str], engines: Sequence[str], how: dict[str, Any], say: Say
) -> Iterator[dict[str, Any]]:
    """Measure every bundle on every engine that runs it; say of the others why not."""
    for bundle in bundles:
        path = find_bundle(bundle)
        verified = load_bundle(path)
        for name in engines:
            try:
                found = measure_engine(verified, name, how["greatest"], how["seconds"], how["peaks"], say)
                subject = Subject(
                    how["scan"], str(path), frames=how["frames"], engine=name, batch_frames=how["batch"]
                )
                found["service"] = measure_service(subject, how["rate"], how["rounds"], say)
                yield found
            except (PtycholiveError, ImportError) as error:
                say(f"{bundle}: not {name}: {error}")


@click.command(
    epilog="""\b
Example:
  python -m service.benchmarking.gpu bundles/star-gpu --json gpu.json"""
)
@click.argument("bundles", nargs=-1)
@click.option("--engine", "engines", multiple=True, help="Only this one; may be given again.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option(
    "--scan", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=_SHIPPED_SCAN,
    help="Streamed through the service.  [default: the shipped one]",
)  # fmt: skip
@click.option("--greatest", type=click.IntRange(min=1, max=4096), default=_GREATEST, show_default=True,
              help="Frames of the largest batch.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="For each size of batch.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True,
              help="Frames of a batch in the service.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=1), default=2000.0, show_default=True,
              help="Frames a second to take the latency at.")  # fmt: skip
@click.option("--frames", type=click.IntRange(min=1), help="Of the scan that are streamed.  [default: all]")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True,
              help="Scans that are streamed for each figure; the median is told.")  # fmt: skip
@click.option("--peak-16-tflops", type=float, help="Not to be measured: float16 operations, 10¹² a second.")
@click.option("--peak-32-tflops", type=float, help="Likewise in float32.")
@click.option("--peak-gb-per-s", type=float, help="Likewise bytes of the memory, 10⁹ a second.")
def command(bundles: Sequence[str], engines: Sequence[str], json_file: Path | None, **how: Any) -> None:
    """Measure bundles on a GPU: engines by size of batch, and the service from socket to mosaic."""
    try:
        found = []
        how["peaks"] = _given_peaks(**how)
        for one in measured(bundles or ["siemens-star"], engines or ENGINES, how, click.echo):
            found.append(one)
            if json_file is not None:  # what there is, should the machine be taken away
                told = {"machine": machine(), "engines": found}
                json_file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    if not found:
        raise click.ClickException("no engine started: the lines above say why")


def _given_peaks(
    peak_16_tflops: float | None, peak_32_tflops: float | None, peak_gb_per_s: float | None, **_: Any
) -> Peaks:
    """Return the peaks that were given by hand."""
    given = {"float16": peak_16_tflops, "float32": peak_32_tflops}
    flop_per_s = {kind: 1e12 * tflops for kind, tflops in given.items() if tflops}
    return Peaks(None if peak_gb_per_s is None else 1e9 * peak_gb_per_s, flop_per_s)


if __name__ == "__main__":
    command()
