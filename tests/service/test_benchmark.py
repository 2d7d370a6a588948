"""What the benchmark tells beside the rates; the rates themselves are for `make bench`, not for tests."""

from pathlib import Path

import onnxruntime

from service import benchmark


def test_the_machine_is_named_with_its_cores():
    assert "cores" in benchmark.machine()
    assert "Python 3" in benchmark.machine()


def test_the_installed_size_counts_what_the_service_needs_and_not_the_training():
    folder = Path(onnxruntime.__file__).parent
    engine = sum(file.stat().st_size for file in folder.rglob("*.so*")) / 2**20
    assert engine < benchmark.installed("ptycholive", "cpu") < 600
    assert benchmark.installed("ptycholive", "training") > benchmark.installed("ptycholive", "cpu") + 400
