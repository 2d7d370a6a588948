"""Rivals that take turns, so that their ratios hold on a machine that others use too."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.benchmarking.peers import Peers
from service.benchmarking.timing import BATCH, Say, Spent, infer_all, spent
from service.engine import Engine
from service.engines.choice import choose_engine
from service.engines.onnxruntime import OnnxRuntimeEngine

Runs = Mapping[str, Callable[[], Spent]]
Standings = dict[str, dict[str, Any]]

_WIDTH = 44


def race(runs: Runs, rounds: int, measured_by: Iterable[str], say: Say) -> Standings:
    """Return for each its rate, its processor time a frame, and what others reach of its.

    Args:
        runs: what handles frames, by name; each takes its turn in every round.
        rounds: how often.
        measured_by: names of those that are held against all others.
        say: takes a line.

    Returns:
        By name: rate_hz, processor_s_a_frame (medians), and `times_as_fast`: by each of `measured_by`, how
        many times as fast that one is, the median over the rounds, by the clock and by processor time.
    """
    taken: dict[str, list[Spent]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run())
    standings = {}
    for name, times in taken.items():
        ratios = {ours: _times_as_fast(taken[ours], times) for ours in measured_by if ours != name}
        rate_hz = statistics.median(one.rate_hz for one in times)
        processor_s = statistics.median(one.processor_s_a_frame for one in times)
        standings[name] = {"rate_hz": rate_hz, "processor_s_a_frame": processor_s, "times_as_fast": ratios}
        told = "".join(f"   {k['clock']:.2f} ({k['processor_time']:.2f}) × by {o}" for o, k in ratios.items())
        say(f"{name:<{_WIDTH}}{rate_hz:>9.1f} Hz{processor_s * 1e3:>9.2f} ms{told}")
    return standings


def engines(
    engine: Engine, peers: Peers | None, frames: NDArray[Any], threads: int
) -> tuple[Runs, list[str]]:
    """Return the service's engine and its peers on the same frames, and which of them are the service's.

    Args:
        engine: of the service.
        peers: that stand beside it.
        frames: (n, H, W) counts.
        threads: of the service's engine; 0: one a core.
    """
    model, ours = engine.bundle, [engine]
    if engine.backend != OnnxRuntimeEngine.backend:  # the peers run on that one
        same = "onnxruntime" if engine.device == "cpu" else "onnxruntime-cuda"
        ours.append(choose_engine(model, same, threads).engine)
    runs = {f"{model.description.name}, {one.backend}": inferring(one, frames) for one in ours}
    names = list(runs)
    if peers is not None:
        runs |= {name: partial(peers.run, name) for name in peers.networks}
    return runs, names


def inferring(engine: Engine, frames: NDArray[Any]) -> Callable[[], Spent]:
    """Return what runs frames (n, H, W) through an engine, in full batches."""
    counts = np.ascontiguousarray(frames[:, None])
    return lambda: spent(len(counts), partial(infer_all, engine, counts, BATCH))


def _times_as_fast(ours: list[Spent], others: list[Spent]) -> dict[str, float]:
    pairs = list(zip(ours, others, strict=True))
    return {
        "clock": statistics.median(a.rate_hz / b.rate_hz for a, b in pairs),
        "processor_time": statistics.median(b.processor_s_a_frame / a.processor_s_a_frame for a, b in pairs),
    }
