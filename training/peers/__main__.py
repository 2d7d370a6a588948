"""The process of the peers: says what it has in a line of JSON, then one for each that it is told to run."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from model.bundle import Bundle, find_bundle, load_bundle
from model.graph_costs import graph_costs
from model.scans import open_scan
from training.peers.naive_script import NaiveScript, Told
from training.peers.networks import Peer, published_networks

_SIDE = 2048  # of the matrices that the peak is measured with
_PRODUCTS = 5
_SCRIPT = "script"


def peak_flop_per_s(device: str) -> float:
    """Return the operations a second of a large float32 matrix product in torch, the best of some."""
    a, b = (torch.rand(_SIDE, _SIDE, device=device) for _ in range(2))
    seconds = []
    for _ in range(_PRODUCTS):
        begun_s = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - begun_s)
    return float(2 * _SIDE**3 / min(seconds))


def run_frames(peer: Peer, counts: NDArray[np.float32], batch: int) -> int:
    """Run counts (n, 1, H, W) through a network, so many at a time; return how many there are."""
    for k in range(0, len(counts), batch):
        peer.run(counts[k : k + batch])
    return len(counts)


def naive_script(peer: Peer, scan: Path, bundle: Bundle, batch: int) -> NaiveScript | None:
    """Return the script that runs a network; None where it could not unpack the frames."""
    try:
        from dectris.compression import decompress
    except ImportError:
        return None
    with open_scan(scan) as opened:
        told = Told(opened.positions_m, bundle.description.object_pixel_m)
    return NaiveScript(peer.run, told, batch, decompress)


def serve(runs: Mapping[str, Callable[[], dict[str, float]]]) -> None:
    """Run what is asked for, a line each, until nothing is asked any more."""
    for line in sys.stdin:
        click.echo(json.dumps(runs[line.strip()]()))


def spent(run: Callable[[], int]) -> dict[str, float]:
    """Run something that returns how many frames it handled; return what it took."""
    begun_s, at_work_s = time.perf_counter(), time.process_time()
    frames = run()
    wall_s, processor_s = time.perf_counter() - begun_s, time.process_time() - at_work_s
    return {"frames": frames, "wall_s": wall_s, "processor_s": processor_s}


def _take_scan(script: NaiveScript) -> dict[str, float]:
    script.wait()
    return spent(script.run)


@click.command()
@click.option("--scan", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--bundle", required=True)
@click.option("--threads", type=click.IntRange(min=1), required=True)
@click.option("--frames", type=click.IntRange(min=1), required=True, help="Given to a network each time.")
@click.option("--batch", type=click.IntRange(min=1), required=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
def main(scan: Path, bundle: str, threads: int, frames: int, batch: int, device: str) -> None:
    """Be the peers of `ptycholive bench`, which starts this program and talks to it."""
    torch.set_num_threads(threads)
    verified = load_bundle(find_bundle(bundle))
    with open_scan(scan) as opened:
        counts = opened.frames()[:frames, None].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        peers = published_networks(counts.shape[2:], threads, device, Path(folder))
        runs: dict[str, Callable[[], dict[str, float]]] = {
            peer.name: partial(spent, partial(run_frames, peer, counts, batch)) for peer in peers
        }
        script = naive_script(peers[0], scan, verified, batch)
        if script is not None:
            runs[_SCRIPT] = partial(_take_scan, script)
        told = {
            "networks": [peer.name for peer in peers],
            "operations": {peer.name: peer.operations for peer in peers}
            | {verified.description.name: graph_costs(verified.onnx).all_operations},
            "peak_flop_per_s": peak_flop_per_s(device),
            "script": None if script is None else peers[0].name,
            "endpoints": None if script is None else script.endpoints,
        }
        click.echo(json.dumps(told))
        serve(runs)


if __name__ == "__main__":
    main()
