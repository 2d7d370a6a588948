"""Workers on a Ray cluster: what they are sent, and what becomes of a scan when none is left."""

from __future__ import annotations

import os
import re
import signal

import pytest

from model.bundle import load_bundle

pytest.importorskip("ray", reason="the extra cluster is not installed")
from service.cluster.nodes import Cluster
from service.cluster.remote_engine import packed, unpacked
from service.errors import ConfigError, EngineError

pytestmark = pytest.mark.long

FRAMES = 64


def test_a_bundle_arrives_whole_or_is_refused(loaded_bundle, tmp_path):
    files = packed(loaded_bundle)
    assert unpacked(files, tmp_path / "whole").description == loaded_bundle.description
    with pytest.raises(EngineError, match="copied whole"):
        unpacked({**files, "model.onnx": files["model.onnx"][:-1]}, tmp_path / "cut")


def test_an_address_where_no_cluster_answers_is_told_at_once():
    with pytest.raises(ConfigError, match="Connection refused"):
        Cluster("127.0.0.1:1", 2, "auto", 1, plain=False)
    with pytest.raises(ConfigError, match="give HOST:PORT"):
        Cluster("beamline", 2, "auto", 1, plain=False)


def test_a_scan_without_a_worker_left_is_told_and_counted(journey, stream, tiny_bundle):
    lines, lost = [], []
    cluster = Cluster("local", 2, "onnxruntime", 1, plain=False, restarts=0)
    try:
        pool = cluster.pool(load_bundle(tiny_bundle), lines.append, lost.append)
        told = journey(pool, batch_frames=4).take(stream()[:33])
        for process in re.findall(r"process (\d+)", "".join(lines)):
            os.kill(int(process), signal.SIGKILL)
        counts = told.take(stream()[33:]).wait(3.0).result().ledger.counts()
        assert counts.stitched + counts.dropped["engine_failed"] == FRAMES
        assert counts.stitched < FRAMES
        assert pool.here == 0
        assert len(lost) == 4
    finally:
        cluster.close()
