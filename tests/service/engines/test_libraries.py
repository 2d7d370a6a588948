"""What the engines for GPUs call is there in the libraries, as far as can be seen without a GPU."""

import ast
from pathlib import Path

import pytest

import service.benchmarking.gpu_peaks as gpu_peaks
import service.engines.cuda as cuda
import service.engines.tensorrt as tensorrt
import service.engines.tensorrt_lane as tensorrt_lane
import service.engines.tensorrt_plan as tensorrt_plan

HOLD = {  # by what our code calls it: the library's class
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "_engine": "ICudaEngine",
    "_running": "IExecutionContext",
    "_runtime": "Runtime",
}


def asked_of(module, name):
    """Return the attributes that a module takes of whatever has this name."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and _name(node.value) == name:
            yield node.attr


def _name(node):
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=ast.Name(id=name)):
            return name
    return None


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


@pytest.mark.parametrize("module", [tensorrt, tensorrt_lane, tensorrt_plan, gpu_peaks])
def test_tensorrt_has_what_is_asked_of_it(module, rtx):
    asked = {*asked_of(module, "trt"), *asked_of(module, "_trt")} - {"__name__", "__version__"}
    assert {name for name in asked if not hasattr(rtx, name)} == set()
    assert asked


@pytest.mark.parametrize(("name", "kind"), HOLD.items())
def test_tensorrts_objects_have_what_is_asked_of_them(name, kind, rtx):
    asked = {word for module in (tensorrt, tensorrt_lane, tensorrt_plan) for word in asked_of(module, name)}
    of_rtx_settings = {"cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"}
    there = {*dir(getattr(rtx, kind)), *(of_rtx_settings if name == "config" else ())}
    assert asked - there == set()
    assert of_rtx_settings <= set(dir(rtx.IRuntimeConfig))


def test_cudas_bindings_have_what_is_asked_of_them():
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    asked = {*asked_of(cuda, "_runtime"), *asked_of(cuda, "cuda")}
    assert {name for name in asked if not hasattr(runtime, name)} == set()
    assert len(asked) > 15
    for kinds, asked_for in (("cudaMemcpyKind", 3), ("cudaStreamCaptureMode", 1)):
        named = set(asked_of(cuda, kinds))
        assert named <= set(getattr(runtime, kinds).__members__)
        assert len(named) == asked_for


def test_without_the_bindings_there_is_no_gpu_and_no_error(monkeypatch):
    monkeypatch.setattr(cuda, "_runtime", _not_installed)
    assert cuda.gpu_count() == 0


def _not_installed():
    raise cuda.EngineError("cuda-bindings is not installed")
