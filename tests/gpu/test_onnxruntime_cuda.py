"""ONNX Runtime on a GPU gives the CPU's numbers, to float32's rounding."""

import numpy as np
import pytest

from model.bundle import find_bundle, load_bundle
from service.engines.choice import choose_engine
from service.engines.onnxruntime_cuda import PROVIDER
from service.engines.places import GpuPlace
from service.errors import EngineError
from service.pool import as_pool

pytestmark = pytest.mark.gpu

onnxruntime = pytest.importorskip("onnxruntime")
if PROVIDER not in onnxruntime.get_available_providers():
    pytest.skip("this onnxruntime has no CUDA: the extra `gpu` brings it", allow_module_level=True)

BATCH = 16
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(find_bundle("siemens-star"))


@pytest.fixture(scope="module")
def engine(bundle):
    return choose_engine(bundle, "onnxruntime-cuda", gpu=GpuPlace(batch_frames=BATCH)).engine


@pytest.fixture(scope="module")
def on_cpu(bundle, star):
    return choose_engine(bundle, "onnxruntime").engine.infer(star)


@pytest.mark.parametrize("frames", [1, 3, BATCH, 64])
def test_the_gpu_says_what_the_cpu_says(engine, star, on_cpu, frames):
    found = engine.infer(star[:frames])
    for name in ("amplitude", "cos", "sin", "residual"):
        np.testing.assert_allclose(getattr(found, name), getattr(on_cpu, name)[:frames], **CLOSE)


def test_batches_that_overlap_keep_their_tiles(engine, star, on_cpu):
    pool = as_pool(engine)
    found = [pool.submit(star[k : k + BATCH]) for _ in range(8) for k in range(0, len(star), BATCH)]
    for number, tiles in enumerate(found):
        k = number * BATCH % len(star)
        np.testing.assert_allclose(tiles.result().amplitude, on_cpu.amplitude[k : k + BATCH], **CLOSE)


def test_a_gpu_that_is_not_there_is_an_error_of_one_line(bundle):
    with pytest.raises(EngineError, match="there is no GPU 99"):
        choose_engine(bundle, "onnxruntime-cuda:99")
