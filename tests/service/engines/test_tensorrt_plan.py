"""What of TensorRT needs no GPU: a graph is parsed and compiled, and kept by all that it depends on."""

import importlib
import sys

import pytest
from for_gpus import with_gpu_graph

import service.engines.tensorrt_plan as plan
from service.engines.choice import choose_engine
from service.engines.cuda import gpu_count
from service.engines.places import GpuPlace
from service.engines.plan_cache import BatchSizes, PlanCache
from service.engines.tensorrt import compiled_plan, plan_key
from service.engines.tensorrt_plan import compiled, gpu_graph, library_version, tensorrt_library
from service.errors import EngineError, NotCompiledError

PLACE = GpuPlace(batch_frames=4)
SIZES = BatchSizes(1, 2, 4)


@pytest.fixture(autouse=True)
def looked_up_anew():
    tensorrt_library.cache_clear()
    yield
    tensorrt_library.cache_clear()


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return with_gpu_graph(tiny_bundle, tmp_path / "for-gpus")


@pytest.fixture
def key(bundle, rtx):
    return plan_key(bundle, "NVIDIA H100", (9, 0), rtx, PLACE)


def test_a_graph_that_takes_bytes_is_compiled_once_and_kept(rtx, bundle, key, tmp_path):
    cache = PlanCache(tmp_path / "cache")
    first = compiled_plan(rtx, gpu_graph(bundle), key, cache, True, lambda: False)
    bundle.gpu_onnx.unlink()  # it cannot be compiled any more
    again = compiled_plan(rtx, gpu_graph(bundle), key, cache, False, lambda: False)
    assert first == again
    assert len(first) > 10_000


def test_what_is_not_yet_compiled_says_so_where_it_may_not_be_now(rtx, bundle, key, tmp_path):
    with pytest.raises(NotCompiledError, match="not yet compiled for NVIDIA H100"):
        compiled_plan(rtx, gpu_graph(bundle), key, PlanCache(tmp_path), False, lambda: False)


def test_an_engine_runs_even_where_it_cannot_be_kept(rtx, bundle, key, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    cache = PlanCache(tmp_path / "file")
    assert compiled_plan(rtx, gpu_graph(bundle), key, cache, True, lambda: False)
    assert "set engine_cache; it will be compiled anew" in caplog.text


def test_a_compilation_is_given_up_when_the_service_stops(rtx, bundle):
    with pytest.raises(EngineError, match="was stopped"):
        compiled(rtx, gpu_graph(bundle), SIZES, stopped=lambda: True)


def test_a_graph_that_is_not_understood_is_refused_in_one_line(rtx, bundle):
    with pytest.raises(EngineError, match=r"does not understand .*model\.onnx") as caught:
        compiled(rtx, bundle.onnx, SIZES)
    assert "\n" not in str(caught.value)


def test_what_is_kept_depends_on_the_library_and_on_the_batches(rtx, bundle, key):
    assert key.library == library_version(rtx) == f"tensorrt_rtx {rtx.__version__}"
    assert key.batches == BatchSizes(1, 4, 64)
    assert key.graph_sha256 == bundle.description.gpu.onnx_sha256


def test_a_bundle_without_a_graph_for_gpus_says_which_command_writes_one(loaded_bundle):
    with pytest.raises(EngineError, match=r"no network for GPUs: `ptycholive export BUNDLE --gpu SCAN`"):
        choose_engine(loaded_bundle, "tensorrt")


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU")
def test_without_a_gpu_tensorrt_says_what_to_install_or_look_at(bundle):
    with pytest.raises(EngineError, match=r"cuda-bindings is not installed|nvidia-smi shows") as caught:
        choose_engine(bundle, "tensorrt:1")
    assert "\n" not in str(caught.value)


def test_where_neither_library_is_installed_both_are_named(monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="tensorrt"):
        tensorrt_library()


def test_a_library_whose_own_libraries_are_missing_says_so(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    importlib.invalidate_caches()
    with pytest.raises(EngineError, match=r"tensorrt does not load: libnvinfer\.so\.11"):
        plan.tensorrt_library()
