"""TensorRT on a GPU says what ONNX Runtime says on the CPU, from its cache too, and through a whole scan."""

import shutil

import numpy as np
import pytest

from model.bundle import find_bundle, load_bundle
from model.device_graph import LIMIT_RAD, add_gpu
from service.engines.choice import choose_engine
from service.engines.places import GpuPlace
from service.engines.tensorrt import TensorRtEngine
from service.engines.tensorrt_plan import tensorrt_library
from service.errors import EngineError, NotCompiledError
from service.pool import as_pool

pytestmark = pytest.mark.gpu

BATCH = 16


@pytest.fixture(scope="module", autouse=True)
def library():
    try:
        return tensorrt_library()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(star, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "star"
    shutil.copytree(find_bundle("siemens-star"), folder)
    add_gpu(folder, np.ascontiguousarray(star[::4]), "the star")
    return load_bundle(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return GpuPlace(cache=tmp_path_factory.mktemp("cache"), batch_frames=BATCH)


@pytest.fixture(scope="module")
def engine(bundle, place):
    return choose_engine(bundle, "tensorrt", gpu=place).engine


@pytest.fixture(scope="module")
def on_cpu(bundle, star):
    return choose_engine(bundle, "onnxruntime").engine.infer(star)


def turned_rad(found, reference):
    turned = np.angle((found.cos + 1j * found.sin) * (reference.cos - 1j * reference.sin))
    return np.sqrt(np.square(turned).mean())


@pytest.mark.parametrize("frames", [1, 3, BATCH, 64])
def test_tensorrt_changes_the_phase_as_little_as_the_bundle_states(engine, bundle, star, on_cpu, frames):
    reference = type(on_cpu)(*(None if plane is None else plane[:frames] for plane in on_cpu))
    change_rad = turned_rad(engine.infer(star[:frames]), reference)
    assert change_rad < min(LIMIT_RAD, 5 * bundle.description.gpu.phase_rms_rad)


def test_batches_that_overlap_keep_their_tiles(engine, star, on_cpu):
    pool = as_pool(engine)
    found = [pool.submit(star[k : k + BATCH]) for _ in range(8) for k in range(0, len(star), BATCH)]
    for number, tiles in enumerate(found):
        k = number * BATCH % len(star)
        np.testing.assert_allclose(tiles.result().amplitude, on_cpu.amplitude[k : k + BATCH], atol=0.05)


def test_a_size_that_becomes_a_graph_says_the_same_before_and_after(engine, star):
    found = [engine.infer(star[:5]) for _ in range(24)]
    for tiles in found[1:]:
        np.testing.assert_array_equal(tiles.cos, found[0].cos)


def test_more_frames_than_a_batch_go_in_several(engine, star, on_cpu):
    assert (
        turned_rad(engine.infer(np.concatenate([star, star])[: len(star) + 7]), _more(on_cpu, 7)) < LIMIT_RAD
    )


def _more(found, frames):
    return type(found)(
        *(None if plane is None else np.concatenate([plane, plane[:frames]]) for plane in found)
    )


def test_a_second_start_compiles_nothing(engine, bundle, place, monkeypatch):
    def compiled(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr("service.engines.tensorrt.compiled", compiled)
    assert choose_engine(bundle, "tensorrt", gpu=place).engine.device == engine.device


def test_auto_leaves_the_compiling_for_later(bundle, tmp_path):
    empty = GpuPlace(cache=tmp_path)
    assert choose_engine(bundle, gpu=empty).later == ("tensorrt",)
    with pytest.raises(NotCompiledError, match="not yet compiled"):
        TensorRtEngine(bundle, empty, may_compile=False)


def test_a_gpu_that_is_not_there_is_an_error_of_one_line(bundle, place):
    with pytest.raises(EngineError, match="there is no GPU 99"):
        choose_engine(bundle, "tensorrt:99", gpu=place)
