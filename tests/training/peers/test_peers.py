from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from model.scans import open_scan
from service.loopback import detector
from training.peers.naive_script import NaiveScript, Told
from training.peers.networks import published_networks

OBJECT_PIXEL_M = 1e-8


def test_torch_and_onnxruntime_run_the_same_published_networks(tmp_path):
    peers = published_networks((32, 32), 1, "cpu", tmp_path)
    counts = np.random.default_rng(1).poisson(20, (3, 1, 32, 32)).astype(np.float32)
    eager, deployed = peers[::2], peers[1::2]
    assert [peer.name for peer in eager] == ["PtychoNN, torch", "the paper's network, torch"]
    for one, other in zip(eager, deployed, strict=True):
        for plane, same in zip(one.run(counts), other.run(counts), strict=True):
            np.testing.assert_allclose(plane, same, atol=1e-4)


def test_the_naive_script_sees_every_frame_of_a_streamed_scan_once(tiny_scan):
    decompress = pytest.importorskip("dectris.compression", reason="the extra `fast`").decompress
    with open_scan(tiny_scan) as scan:
        counts, positions_m = scan.frames(), scan.positions_m
    seen = []

    def infer(batch):
        seen.extend(batch[:, 0].sum(axis=(1, 2)).tolist())
        return [np.ones_like(batch), np.zeros_like(batch)]

    script = NaiveScript(infer, Told(positions_m, OBJECT_PIXEL_M), 5, decompress)
    with closing(script), ThreadPoolExecutor(1) as pool, detector(script.endpoints, tiny_scan, rate_hz=0):
        frames = pool.submit(script.run).result(60)
    assert frames == len(counts)
    np.testing.assert_allclose(seen, counts.sum(axis=(1, 2)))
