"""Which engine runs a bundle, and what is said of those that do not."""

import shutil
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from for_gpus import with_gpu_graph

import service.engines.choice as choice
from model.bundle import Int8Description, file_sha256, find_bundle, load_bundle, write_description
from model.scans import open_scan
from service.engines.choice import Candidate, choose_engine
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.engines.places import GpuPlace
from service.errors import EngineError, NotCompiledError

STAR = Path(__file__).parents[2] / "service" / "data" / "siemens_star_aps.cxi"
NO_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


def slowed(seconds):
    """Return an engine of another name that takes longer over a batch."""

    class Slowed(OnnxRuntimeEngine):
        backend = f"slow by {seconds}"

        def infer(self, counts):
            time.sleep(seconds)
            return super().infer(counts)

    return Slowed


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "service.engines.openvino", raising=False)


@pytest.mark.skipif(not NO_CUDA, reason="this onnxruntime can use a GPU")
def test_where_only_the_cpu_is_the_choice_says_why_not_the_others(loaded_bundle, no_openvino):
    found = choose_engine(loaded_bundle, threads=1)
    assert (found.engine.backend, found.engine.device) == ("onnxruntime", "cpu")
    assert [str(candidate) for candidate in found.candidates] == [
        "onnxruntime",
        f"not tensorrt: {loaded_bundle.path} holds no network for GPUs: "
        "`ptycholive export BUNDLE --gpu SCAN` writes one",
        "not onnxruntime-cuda: this onnxruntime has no CUDAExecutionProvider",
        "not openvino: openvino is not installed",
    ]
    assert found.later == ()


@pytest.mark.skipif(not NO_CUDA, reason="this onnxruntime can use a GPU")
def test_an_engine_that_is_asked_for_is_never_replaced_by_another(loaded_bundle, no_openvino):
    with pytest.raises(EngineError, match="no CUDAExecutionProvider"):
        choose_engine(loaded_bundle, "onnxruntime-cuda:1", threads=1)
    with pytest.raises(ModuleNotFoundError, match="openvino"):
        choose_engine(loaded_bundle, "openvino", threads=1)


def test_the_fastest_of_those_that_start_is_taken_and_told_first(loaded_bundle, monkeypatch):
    engines = {"slow": slowed(0.02), "onnxruntime": slowed(0.0)}
    monkeypatch.setattr(choice, "ENGINES", engines)
    found = choose_engine(loaded_bundle, threads=1)
    assert found.engine.backend == "slow by 0.0"
    timed = [candidate for candidate in found.candidates if candidate.why_not is None]
    assert [candidate.name for candidate in timed] == ["onnxruntime", "slow"]
    fast, slow = (candidate.rate_hz for candidate in timed)
    assert fast > slow
    assert str(found.candidates[1]).endswith("frames/s")


def test_a_graph_that_no_engine_runs_is_refused_with_onnxruntimes_reason(bundle_maker, tmp_path):
    bundle = load_bundle(bundle_maker(tmp_path))
    bundle.onnx.write_bytes(b"no network")
    with pytest.raises(EngineError, match="does not load"):
        choose_engine(bundle, threads=1)


def test_a_candidate_says_its_rate_or_why_it_does_not_run():
    assert str(Candidate("openvino", rate_hz=161.6)) == "openvino 162 frames/s"
    assert str(Candidate("openvino", why_not="not here")) == "not openvino: not here"


@pytest.fixture
def openvino_engine(loaded_bundle):
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    return choose_engine(loaded_bundle, "openvino", threads=1).engine


@pytest.mark.parametrize("frames", [1, 3, 16])
def test_openvino_says_what_onnxruntime_says(openvino_engine, tiny_engine, tiny_file, frames):
    counts = tiny_file.frames(slice(0, frames))[:, None]
    for ours, theirs in zip(openvino_engine.infer(counts), tiny_engine.infer(counts), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_next_batch_does_not_write_over_what_openvino_said_before(openvino_engine, tiny_file):
    first = openvino_engine.infer(tiny_file.frames(slice(0, 2))[:, None])
    kept = first.amplitude.copy()
    openvino_engine.infer(tiny_file.frames(slice(2, 4))[:, None])
    np.testing.assert_array_equal(first.amplitude, kept)


@pytest.mark.parametrize("counts", [np.zeros((1, 1, 32, 40), "<u2"), np.zeros((1, 1, 32, 32), np.float32)])
def test_openvino_does_not_cast_or_reshape_counts_in_silence(openvino_engine, counts):
    with pytest.raises(EngineError, match="does not run"):
        openvino_engine.infer(counts)


def test_engines_that_round_more_are_taken_only_when_they_are_asked_for(loaded_bundle):
    looked_at = {candidate.name for candidate in choose_engine(loaded_bundle, threads=1).candidates}
    assert looked_at == set(choice.ENGINES) | set(choice.ON_GPU)
    assert not looked_at & set(choice.ON_REQUEST)


@pytest.mark.usefixtures("openvino_engine")
def test_openvino_runs_the_graph_of_8_bits_where_the_bundle_has_one(bundle_maker, tmp_path, tiny_file):
    path, doubled = bundle_maker(tmp_path), bundle_maker(tmp_path, "doubled", gain=2.0)
    with pytest.raises(EngineError, match="holds no int8 network"):
        choose_engine(load_bundle(path), "openvino-int8", threads=1)
    shutil.copy(doubled / "model.onnx", path / "model-int8.onnx")
    int8 = Int8Description(
        onnx_sha256=file_sha256(path / "model-int8.onnx"), scan="tiny", frames=1, convolutions=1, of=1,
        phase_rms_rad=0.0, amplitude_rms=1.0,
    )  # fmt: skip
    write_description(path, msgspec.structs.replace(load_bundle(path).description, int8=int8))
    exact, rounded = (
        choose_engine(load_bundle(path), name, threads=1).engine for name in ("openvino", "openvino-int8")
    )
    assert (exact.backend, rounded.backend) == ("openvino", "openvino-int8")
    counts = tiny_file.frames(slice(0, 2))[:, None]
    np.testing.assert_allclose(rounded.infer(counts).amplitude, 2 * exact.infer(counts).amplitude, rtol=1e-5)


@pytest.mark.usefixtures("openvino_engine")
def test_bfloat16_moves_the_shipped_models_phase_a_little():
    shipped = load_bundle(find_bundle("siemens-star"))
    with open_scan(STAR) as scan:
        counts = scan.frames(slice(200, 202))[:, None]
    try:
        rounded = choose_engine(shipped, "openvino-bf16", threads=1).engine.infer(counts)
    except EngineError as error:
        pytest.skip(str(error))
    exact = choose_engine(shipped, "openvino", threads=1).engine.infer(counts)
    turned_rad = np.angle((rounded.cos + 1j * rounded.sin) * (exact.cos - 1j * exact.sin))
    assert 1e-4 < np.sqrt(np.square(turned_rad).mean()) < 0.02


@pytest.mark.parametrize("name", ["openvino:1", "tensorflow", "auto:0"])
def test_an_engine_that_nobody_knows_is_refused_with_those_that_are_known(loaded_bundle, name):
    with pytest.raises(EngineError, match=f"no engine '{name}': tensorrt, onnxruntime-cuda, openvino"):
        choose_engine(loaded_bundle, name)


@pytest.mark.parametrize(
    ("name", "number"),
    [("tensorrt", 3), ("tensorrt:1", 1), ("onnxruntime-cuda", 3), ("onnxruntime-cuda:0", 0)],
)
def test_an_engines_name_says_on_which_gpu_it_runs(loaded_bundle, monkeypatch, name, number):
    asked = []
    monkeypatch.setitem(choice.ON_GPU, name.partition(":")[0], lambda _, gpu: asked.append(gpu.number))
    choose_engine(loaded_bundle, name, gpu=GpuPlace(number=3))
    assert asked == [number]


def test_auto_leaves_out_a_gpu_engine_that_changes_the_phase_noticeably(tiny_bundle, tmp_path):
    bundle = with_gpu_graph(tiny_bundle, tmp_path / "coarse", phase_rms_rad=0.005)
    found = choose_engine(bundle, threads=1)
    assert "not tensorrt: it changes the phase by 0.0050 rad, so only on request" in map(
        str, found.candidates
    )


def test_auto_times_what_runs_where_another_could_be_compiled(loaded_bundle, monkeypatch):
    def not_yet(*_, may_compile):
        assert not may_compile
        raise NotCompiledError("it is not yet compiled for this GPU")

    monkeypatch.setattr(choice, "ENGINES", {"onnxruntime": slowed(0.0)})
    monkeypatch.setitem(choice.ON_GPU, "tensorrt", not_yet)
    found = choose_engine(loaded_bundle, threads=1)
    assert found.later == ("tensorrt",)
    assert found.candidates[0].rate_hz > 0
