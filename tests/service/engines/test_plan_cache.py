"""Engines that were compiled for a GPU, in files: found again for the same graph, GPU, library and sizes."""

import dataclasses
from pathlib import Path

import pytest

from service.engines.plan_cache import BatchSizes, PlanCache, PlanKey
from service.errors import EngineError

KEY = PlanKey("a" * 64, "NVIDIA H100 80GB HBM3", (9, 0), "tensorrt 11.4.0", BatchSizes(1, 16, 64))
OTHERS = {
    "graph_sha256": "b" * 64,
    "gpu": "NVIDIA H100 80GB HBM3/MIG 1g.10gb",
    "capability": (9, 1),
    "library": "tensorrt_rtx 11.4.0",
    "batches": BatchSizes(1, 16, 128),
}


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "not" / "there yet")


def test_an_engine_is_found_again_by_what_it_was_compiled_of_for_and_with(cache):
    assert cache.find(KEY) is None
    cache.keep(KEY, b"compiled")
    assert cache.find(KEY) == b"compiled"
    for field, value in OTHERS.items():
        assert cache.find(dataclasses.replace(KEY, **{field: value})) is None


def test_a_file_is_named_by_what_a_person_would_look_for(cache, tmp_path):
    cache.keep(KEY, b"compiled")
    (file,) = (tmp_path / "not" / "there yet").iterdir()
    assert file.name.startswith("aaaaaaaaaaaa.NVIDIA-H100-80GB-HBM3-sm90-tensorrt-11.4.0.1-16-64.")


def test_gpus_whose_names_differ_only_in_signs_have_files_of_their_own():
    names = {dataclasses.replace(KEY, gpu=gpu).file_name for gpu in ("A/B", "A B", "A-B", "../A B")}
    assert len(names) == 4
    assert not any("/" in name for name in names)


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-1], lambda b: b[:40] + b"x" + b[41:], lambda b: b"", lambda b: b[:7]]
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(cache, tmp_path, harm):
    cache.keep(KEY, bytes(range(100)))
    (file,) = (tmp_path / "not" / "there yet").iterdir()
    file.write_bytes(harm(file.read_bytes()))
    assert cache.find(KEY) is None
    cache.keep(KEY, b"anew")
    assert cache.find(KEY) == b"anew"
    assert [path.name for path in file.parent.iterdir()] == [KEY.file_name]


def test_what_the_library_does_not_take_is_forgotten(cache):
    cache.drop(KEY)
    cache.keep(KEY, b"compiled")
    cache.drop(KEY)
    assert cache.find(KEY) is None


def test_a_folder_that_cannot_be_written_is_named_with_the_setting(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EngineError, match=r"cannot keep the compiled engine in .*: set engine_cache"):
        PlanCache(tmp_path / "file").keep(KEY, b"compiled")


def test_a_home_is_found_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    PlanCache(Path("~/engines")).keep(KEY, b"compiled")
    assert [file.name for file in (tmp_path / "engines").iterdir()] == [KEY.file_name]


def test_nobody_else_can_put_an_engine_into_the_folder(cache, tmp_path):
    cache.keep(KEY, b"compiled")
    assert (tmp_path / "not" / "there yet").stat().st_mode & 0o077 == 0


def test_a_user_without_a_home_is_told_the_setting():
    with pytest.raises(EngineError, match=r"no home .*: set engine_cache"):
        PlanCache(Path("~nobody-of-that-name/engines"))


@pytest.mark.parametrize("sizes", [(0, 1, 2), (2, 1, 3), (1, 3, 2)])
def test_sizes_of_batches_that_fall_are_refused(sizes):
    with pytest.raises(ValueError, match="rise from 1"):
        BatchSizes(*sizes)
