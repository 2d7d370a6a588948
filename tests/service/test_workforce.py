"""Where the engines of one machine run: side by side on its cores, or on one GPU after the other."""

import pytest

import service.engines.choice as choice
import service.workforce as workforce
from service.check import check_all
from service.config import Settings
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.workforce import Workforce


class OnGpu(OnnxRuntimeEngine):
    """A real engine that says on which GPU it was started."""

    def __init__(self, bundle, gpu):
        super().__init__(bundle, 1)
        self.device = f"cuda:{gpu.number}"


@pytest.fixture
def gpus(monkeypatch):
    """Have so many GPUs."""
    monkeypatch.setitem(choice.ON_GPU, "tensorrt", OnGpu)
    return lambda count: monkeypatch.setattr(workforce, "gpu_count", lambda: count)


def started(tiny_bundle, **settings):
    pool = Workforce(Settings(bundle=str(tiny_bundle), **settings), print, print).load(str(tiny_bundle))
    pool.close()
    return pool


@pytest.mark.parametrize(
    ("there", "engine", "workers", "device"),
    [
        (2, "tensorrt", 3, "3 × cuda:0+cuda:1"),
        (8, "tensorrt", 2, "2 × cuda:0+cuda:1"),
        (2, "tensorrt:1", 2, "2 × cuda:1"),
        (2, "tensorrt", 1, "cuda:0"),
        (2, "tensorrt:1", 1, "cuda:1"),
        (0, "tensorrt", 2, "2 × cuda:0"),
        (2, "onnxruntime", 2, "2 × cpu"),
    ],
)
def test_workers_are_spread_over_all_gpus_unless_one_is_named(
    gpus, tiny_bundle, there, engine, workers, device
):
    gpus(there)
    pool = started(tiny_bundle, engine=engine, workers=workers)
    assert (pool.device, pool.here) == (device, workers)


def test_check_tells_where_the_workers_are(gpus, tiny_bundle):
    gpus(2)
    settings = Settings(bundle=str(tiny_bundle), engine="tensorrt", workers=2, images="tcp://127.0.0.1:1")
    findings = {finding.what: finding for finding in check_all(settings, timeout_s=0.01)}
    assert "onnxruntime on 2 × cuda:0+cuda:1, one runs" in findings["engine"].detail
