"""The one call on a machine with a GPU. Here it runs on the CPU, with frames that take no time."""

import json

import pytest
from click.testing import CliRunner

from model.bundle import find_bundle, load_bundle
from service.benchmarking.gpu import Costs, _peaks, batch_sizes, command, costs_of
from service.benchmarking.gpu_peaks import Peaks, peaks_of, product_plan
from service.engines.cuda import gpu_count

QUICK = "--greatest 4 --seconds 0.01 --rounds 1 --rate 500"
PEAKS = "--peak-32-tflops 60 --peak-16-tflops 800 --peak-gb-per-s 3000"


def called(*words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def figures(tiny_bundle, tiny_scan, tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "gpu.json"
    words = ["--engine", "onnxruntime", "--scan", tiny_scan, *QUICK.split(), *PEAKS.split(), "--json", file]
    done = called(tiny_bundle, *words)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(file.read_text())["engines"]
    return done.output, found


def test_one_call_tells_every_size_of_batch_and_the_whole_service(figures):
    output, found = figures
    assert [one["batch"] for one in found["rates"]] == [1, 2, 4]
    assert all(one["rate_hz"] > 0 for one in found["rates"])
    assert found["service"]["rate_hz"] > 0
    assert 0 < found["service"]["p50_s"] <= found["service"]["p99_s"]
    assert found["service"]["at_hz"] == 500
    assert "tiny, 32×32, onnxruntime on cpu (" in output
    assert "cores" in found["device_name"]


def test_shares_are_of_what_the_peaks_allow(figures):
    _, found = figures
    assert found["peaks"]["bytes_per_s"] == 3e12
    allowed_hz = 3e12 / found["costs"]["moved_bytes"]
    assert found["floors_hz"] == {"arithmetic": None, "memory": pytest.approx(allowed_hz)}
    for one in found["rates"]:
        assert one["of_memory"] == pytest.approx(one["rate_hz"] / allowed_hz)


def test_each_type_has_its_own_peak_and_one_that_is_not_known_leaves_no_floor():
    costs = Costs({"float32": 2e9, "float16": 8e9}, moved_bytes=1e6)
    floors = costs.floors_hz(Peaks(1e12, {"float32": 1e12, "float16": 8e12}))
    assert floors == {"arithmetic": pytest.approx(1 / 3e-3), "memory": pytest.approx(1e6)}
    assert costs.floors_hz(Peaks(None, {"float32": 1e12})) == {"arithmetic": None, "memory": None}


def test_the_shipped_networks_costs_are_counted_by_another_process():
    costs = costs_of(load_bundle(find_bundle("siemens-star")).onnx)
    assert costs.operations["float32"] > 1e9
    assert costs.moved_bytes > 1e6


def test_the_cpus_peaks_are_measured_with_its_own_libraries():
    peaks = peaks_of("cpu", print)
    assert peaks.bytes_per_s > 1e8
    assert peaks.flop_per_s["float32"] > 1e8


def test_a_peak_that_is_given_is_not_measured(monkeypatch):
    monkeypatch.setattr("service.benchmarking.gpu.peaks_of", lambda *_: Peaks(5.0, {"float32": 7.0}))
    assert _peaks("cpu", Peaks(None, {"float32": 8.0}), print) == Peaks(5.0, {"float32": 8.0})
    assert _peaks("cuda:0", Peaks(6.0, {"float16": 9.0}), print) == Peaks(
        6.0, {"float16": 9.0, "float32": 7.0}
    )
    monkeypatch.delattr("service.benchmarking.gpu.peaks_of")
    assert _peaks("cpu", Peaks(6.0, {"float32": 8.0}), print) == Peaks(6.0, {"float32": 8.0})


def test_sizes_of_batches_double_up_to_the_greatest():
    assert batch_sizes(1024) == [2**k for k in range(11)]
    assert batch_sizes(5) == [1, 2, 4]


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU")
def test_where_no_engine_starts_the_reasons_are_told(tiny_bundle):
    done = CliRunner().invoke(command, [str(tiny_bundle)])
    assert done.exit_code == 1
    assert "not tensorrt: " in done.output
    assert "not onnxruntime-cuda: " in done.output
    assert "the lines above say why" in done.output


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_the_product_that_measures_a_gpus_peak_can_be_compiled(kind):
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    assert len(product_plan(trt, kind, 256)) > 1000
