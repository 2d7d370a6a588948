"""`ptycholive bench`: stage by stage and end to end, in one run on one machine.

Rates are told as medians over rounds. The bare engine and the whole service take turns within a round, so
that their ratio holds on a noisy machine.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from model.geometry import probe_weight
from model.scans import open_scan
from service.app import App
from service.engine import Engine
from service.loopback import detector, endpoints, loopback_settings
from service.messages import ScanStart, Tiles
from service.mosaic import Mosaic
from service.scan_run import ScanRun
from service.serving import serving
from service.wire import dectris_v2, native
from service.workforce import load_engine

BATCH = 16
LOOPS = 20
_PATIENCE_S = 600.0

Say = Callable[[str], object]


def run_benchmark(scan: Path, bundle: str, rounds: int, say: Say) -> dict[str, Any]:
    """Measure everything, telling each figure as it comes; return them all.

    Args:
        scan: file to stream.
        bundle: model.
        rounds: times each rate is taken.
        say: takes a line.
    """
    with open_scan(scan) as opened:
        frames, positions_m = opened.frames(), opened.positions_m
    engine = load_engine(bundle, 0)
    figures: dict[str, Any] = {"machine": machine(), "bundle": bundle, "frames": list(frames.shape)}
    say(figures["machine"])
    figures["stages_hz"] = stages(engine, frames, positions_m, rounds, say)
    figures["end_to_end"] = end_to_end(engine, scan, frames, bundle, rounds, say)
    figures["memory_mib"] = memory(scan, bundle, say)
    figures["ready_s"] = ready(bundle, rounds, say)
    figures["installed_mib"] = installed()
    say(f"installed size of ptycholive[cpu] with all it needs: {figures['installed_mib']:.0f} MiB")
    return figures


def machine() -> str:
    """Return a line that names the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (named := re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())):
        model = named[1]
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def stages(
    engine: Engine, frames: NDArray[Any], positions_m: NDArray[np.float64], rounds: int, say: Say
) -> dict[str, float]:
    """Return frames a second of each stage on its own."""
    counts = np.ascontiguousarray(frames[:64, None])
    tiles = _tiles(engine, counts, positions_m)
    mosaic = Mosaic(
        engine.bundle.description.object_pixel_m, probe_weight(engine.bundle.probe, tiles.cos.shape[1:])
    )
    work: dict[str, Callable[[], object]] = {
        "decode native raw": _decoding(native.NativeDecoder(), *_native_messages(frames[:64], "raw")),
        "decode native bslz4": _decoding(native.NativeDecoder(), *_native_messages(frames[:64], "bslz4")),
        "decode DECTRIS V2 bslz4": _decoding(dectris_v2.DectrisV2Decoder(), *_dectris_messages(frames[:64])),
        "engine, batch 1": lambda: [engine.infer(counts[k : k + 1]) for k in range(8)] * 8,
        "engine, batch 16": lambda: [engine.infer(counts[k : k + BATCH]) for k in range(0, 64, BATCH)],
        "engine, batch 64": lambda: engine.infer(counts),
        "stitch": lambda: mosaic.add(tiles),
    }
    rates = {}
    for name, call in work.items():
        share = 8 if name == "engine, batch 1" else 64
        rates[name] = share / statistics.median(_seconds(call) for _ in range(rounds))
        say(f"{name:<26}{rates[name]:>10.0f} frames/s")
    return rates


def end_to_end(
    engine: Engine, scan: Path, frames: NDArray[Any], bundle: str, rounds: int, say: Say
) -> dict[str, Any]:
    """Return rates and latencies of the service, beside the bare engine's in the same rounds.

    The detector's process works on the same cores and takes its share of them. So the engine is timed twice:
    alone, and while a detector streams the same frames to nobody; the second tells what the service costs.
    """
    alone, beside, whole = [], [], []
    for _ in range(rounds):
        alone.append(len(frames) / _seconds(lambda: _infer_all(engine, frames)))
        with _ignored_detector(scan):
            beside.append(len(frames) / _seconds(lambda: _infer_all(engine, frames)))
        with _service(bundle) as app:
            whole.append(next(_streamed(app, scan, rate_hz=0)).rates.mean_hz() or 0.0)
    figures: dict[str, Any] = {
        "service_hz": statistics.median(whole),
        "engine_alone_hz": statistics.median(alone),
        "engine_beside_detector_hz": statistics.median(beside),
        "ratio_to_engine_alone": _median_ratio(whole, alone),
        "ratio_to_engine_beside_detector": _median_ratio(whole, beside),
    }
    say(f"service, as fast as possible: {figures['service_hz']:.1f} frames/s")
    for name, what in (("alone", "alone"), ("beside_detector", "while a detector streams to nobody")):
        rate_hz, ratio = figures[f"engine_{name}_hz"], figures[f"ratio_to_engine_{name}"]
        say(f"bare engine {what}: {rate_hz:.1f} frames/s; the service reaches {ratio:.3f} of it")
    for share in (0.5, 0.8):
        rate_hz = share * figures["service_hz"]
        with _service(bundle) as app:
            run = next(_streamed(app, scan, rate_hz))
        p50, p99 = (run.rates.latency_s(p) or 0.0 for p in (50, 99))
        figures[f"latency_at_{share:.0%}"] = {"rate_hz": rate_hz, "p50_s": p50, "p99_s": p99}
        say(f"frame to mosaic at {rate_hz:.0f} frames/s: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")
    return figures


def _median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


@contextmanager
def _ignored_detector(scan: Path) -> Iterator[None]:
    """Let a detector stream as fast as it can to sockets that throw everything away."""
    with zmq.Context() as context, context.socket(zmq.PULL) as frames, context.socket(zmq.PULL) as positions:
        ports = [sink.bind_to_random_port("tcp://127.0.0.1") for sink in (frames, positions)]
        to = (f"tcp://127.0.0.1:{ports[0]}", f"tcp://127.0.0.1:{ports[1]}")
        with detector(to, scan, rate_hz=0):
            frames.poll()  # it has begun
            drain = threading.Thread(target=_drain, args=([frames, positions],))
            drain.start()
            yield
            drain.join()


def _drain(sinks: list[zmq.Socket[bytes]]) -> None:
    """Receive until nothing comes any more."""
    while any(sink.poll(500) for sink in sinks):
        for sink in sinks:
            while sink.poll(0):
                sink.recv_multipart()


def memory(scan: Path, bundle: str, say: Say) -> list[float]:
    """Return the service's resident memory after each of twenty scans in a row, MiB."""
    with _service(bundle) as app:
        held = [_resident_mib() for _ in _streamed(app, scan, rate_hz=0, loops=LOOPS)]
    shown = ", ".join(f"{held[k]:.0f}" for k in (0, 1, LOOPS // 2 - 1, -1))
    say(f"memory after scan 1, 2, {LOOPS // 2}, {LOOPS}: {shown} MiB")
    return held


def ready(bundle: str, rounds: int, say: Say) -> float:
    """Return seconds from the start of `ptycholive serve` to its readiness, median."""
    seconds = statistics.median(_start_up_s(bundle) for _ in range(rounds))
    say(f"start-up to ready: {seconds:.2f} s")
    return seconds


def installed(root: str = "ptycholive", extra: str = "cpu") -> float:
    """Return the size of everything that `pip install ptycholive[cpu]` brings, MiB."""
    sizes: dict[str, int] = {}
    waiting = [(root, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if name in sizes:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        files = (Path(str(file.locate())) for file in package.files or ())
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
        waiting += [(need, "") for need in _needs(package, wanted)]
    return sum(sizes.values()) / 2**20


def _needs(package: metadata.Distribution, extra: str) -> Iterator[str]:
    for requirement in package.requires or ():
        name, _, marker = requirement.partition(";")
        if "extra ==" not in marker or re.search(rf"extra == ['\"]{extra}['\"]", marker):
            yield re.split(r"[\s<>=!~\[(]", name.strip(), maxsplit=1)[0]


def _seconds(call: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    call()
    return time.perf_counter() - begun_s


def _infer_all(engine: Engine, frames: NDArray[Any]) -> None:
    for k in range(0, len(frames), BATCH):
        engine.infer(np.ascontiguousarray(frames[k : k + BATCH, None]))


def _tiles(engine: Engine, counts: NDArray[Any], positions_m: NDArray[np.float64]) -> Tiles:
    amplitude, cos, sin, *_ = engine.infer(counts)
    n = len(counts)
    return Tiles("bench", np.arange(n), positions_m[:n], amplitude, cos, sin, np.zeros(n, np.int64))


def _decoding(decoder: Any, start: list[bytes], messages: list[list[bytes]]) -> Callable[[], object]:
    decoder.decode(start, 0)
    return lambda: [decoder.decode(parts, 0) for parts in messages]


def _scan_start(frames: NDArray[Any]) -> ScanStart:
    return ScanStart("bench", (frames.shape[1], frames.shape[2]), frames.dtype, len(frames))


def _native_messages(frames: NDArray[Any], encoding: Any) -> tuple[list[bytes], list[list[bytes]]]:
    messages = [native.encode_frames("bench", k, frames[k : k + 1], encoding) for k in range(len(frames))]
    return native.encode_start(_scan_start(frames)), messages


def _dectris_messages(frames: NDArray[Any]) -> tuple[list[bytes], list[list[bytes]]]:
    series = dectris_v2.SentSeries(_scan_start(frames), 1)
    messages = [dectris_v2.encode_image(series, k, frame, "bslz4") for k, frame in enumerate(frames)]
    return dectris_v2.encode_start(series), messages


@contextmanager
def _service(bundle: str) -> Iterator[App]:
    """Run the service on free ports, its results thrown away."""
    with tempfile.TemporaryDirectory() as folder, serving(loopback_settings(bundle, folder)) as (app, _):
        yield app


def _streamed(app: App, scan: Path, rate_hz: float, loops: int = 1) -> Iterator[ScanRun]:
    """Stream the scan so many times; yield each finished run."""
    with detector(endpoints(app), scan, rate_hz, loop=loops > 1):
        seen: set[int] = set()
        while len(seen) < loops:
            run = _next_finished(app, seen)
            seen.add(run.started_ns)
            yield run


def _next_finished(app: App, seen: set[int]) -> ScanRun:
    patience_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patience_s:
        for run in app.runs.newest_first():
            if run.finished_ns is not None and run.started_ns not in seen:
                return run
        time.sleep(0.02)
    raise TimeoutError(f"no scan was finished within {_PATIENCE_S:.0f} s")


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _start_up_s(bundle: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "-m", "service.cli", "serve", "--port", "0", "--results", folder]
        command += ["--bundle", bundle, "--images", f"ipc://{folder}/images"]
        begun_s = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as service:
            try:
                page = next(line for line in service.stdout or () if line.startswith("page: ")).split()[1]
                while not _answers(f"{page}/readyz"):
                    time.sleep(0.005)
                return time.perf_counter() - begun_s
            finally:
                service.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own service
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False
