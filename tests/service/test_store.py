"""Result files: whole or not there, and readable by whoever follows NeXus."""

import json
import resource
from contextlib import contextmanager
from dataclasses import replace

import h5py
import numpy as np
import pytest
from PIL import Image as Picture

from service.errors import ConfigError
from service.messages import ScanStart
from service.store import ResultStore, write_result

FRAMES = 64


@pytest.fixture
def run(journey, stream):
    """A finished scan with losses."""
    start, *frames, end = stream()
    return journey().take([start, *frames[:50], *frames[:3], end]).wait(2.1).result()


@pytest.fixture
def empty(journey):
    """A finished scan without a single frame."""
    told = journey().take([ScanStart("empty", (32, 32), np.dtype("<u2"), frames=3)])
    told.close()
    return told.result()


@pytest.fixture
def stored(tmp_path, loaded_bundle):
    """Return what saves scans, waits for it, and gives the store."""
    troubles = []
    stores = []

    def save(*runs):
        store = ResultStore(tmp_path / "results", troubles.append)
        stores.append(store)
        for run in runs:
            store.save(run, loaded_bundle).result(timeout=20)
        return store, troubles

    yield save
    for store in stores:
        store.close()


@contextmanager
def no_file_larger_than(nbytes):
    """Let writing beyond so many bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_viewer_that_follows_the_defaults_ends_at_the_phase(run, loaded_bundle, tmp_path):
    write_result(tmp_path / "r.h5", run, loaded_bundle)
    with h5py.File(tmp_path / "r.h5") as file:
        node = file
        while "default" in node.attrs:
            node = node[node.attrs["default"]]
        assert node.attrs["NX_class"] == "NXdata"
        assert node.name == "/entry/phase"
        np.testing.assert_array_equal(node[node.attrs["signal"]], run.mosaic.image("phase"))
        assert node["data"].attrs["units"] == "rad"
        assert list(node.attrs["axes"]) == ["y", "x"]


@pytest.mark.parametrize("channel", ["phase", "amplitude", "agreement", "coverage", "confidence"])
def test_every_map_has_its_axes_in_metres(run, loaded_bundle, tmp_path, channel):
    write_result(tmp_path / "r.h5", run, loaded_bundle)
    with h5py.File(tmp_path / "r.h5") as file:
        data = file["entry"][channel]
        np.testing.assert_array_equal(data["data"], run.mosaic.image(channel))
        for axis, origin_m, count in zip("yx", run.mosaic.origin_m, data["data"].shape, strict=True):
            assert data[axis].attrs["units"] == "m"
            np.testing.assert_allclose(data[axis], origin_m + np.arange(count) * 1e-8, atol=1e-15)


def test_object_positions_ledger_model_and_version_are_there(run, loaded_bundle, tmp_path, stream):
    write_result(tmp_path / "r.h5", run, loaded_bundle)
    with h5py.File(tmp_path / "r.h5") as file:
        entry = file["entry"]
        assert entry["object"].dtype == np.complex64
        np.testing.assert_array_equal(entry["object"], run.mosaic.object())
        np.testing.assert_array_equal(entry["positions"], stream()[0].positions_m[:50])
        assert entry["frames"][()].tolist() == list(range(50))
        ledger = {
            name: entry["ledger"][name][()] for name in ("expected", "received", "stitched", "duplicates")
        }
        assert ledger == {"expected": FRAMES, "received": 53, "stitched": 50, "duplicates": 3}
        assert dict(entry["ledger/dropped"].items())["never_arrived"][()] == 14
        assert entry["ledger/in_words"].asstr()[()].startswith("50 of 64 frames stitched")
        assert entry["model/onnx_sha256"].asstr()[()] == loaded_bundle.description.onnx_sha256
        np.testing.assert_array_equal(entry["model/probe"], loaded_bundle.probe)
        assert entry["program_name"].asstr()[()] == "ptycholive"
        assert entry["program_name"].attrs["version"]
        assert json.loads(entry["report"].asstr()[()])["scan"] == "tiny"
        assert entry["end_time"].asstr()[()] > entry["start_time"].asstr()[()]


def test_a_small_scan_makes_a_small_file(run, stored):
    store, _ = stored(run)
    assert store.file("tiny").stat().st_size < 200_000


def test_a_scan_without_a_single_frame_has_a_result_too(empty, stored, tmp_path):
    store, troubles = stored(empty)
    assert troubles == []
    with h5py.File(store.file("empty")) as file:
        assert file["entry/phase/data"].shape == file["entry/object"].shape == (0, 0)
        assert file["entry/ledger/dropped/never_arrived"][()] == 3
    assert names(tmp_path / "results") == ["empty.h5"]


def test_the_result_opens_for_reading_while_the_picture_of_the_newest_lies_beside_it(run, stored, tmp_path):
    store, _ = stored(run)
    assert names(tmp_path / "results") == ["latest.png", "tiny.h5"]
    with h5py.File(store.file("tiny"), "r") as file, Picture.open(tmp_path / "results/latest.png") as latest:
        assert latest.size == file["entry/phase/data"].shape[::-1]


def test_a_second_scan_of_the_same_name_keeps_both_files(run, stored, tmp_path):
    store, _ = stored(run, run)
    first, *_, second = sorted((tmp_path / "results").glob("tiny*.h5"), key=lambda path: len(path.name))
    assert first.name == "tiny.h5"
    assert store.file("tiny") == second
    assert names(tmp_path / "results") == sorted(["latest.png", first.name, second.name])


def test_a_result_that_was_there_before_the_service_is_not_overwritten(run, stored, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tiny.h5").write_bytes(b"precious")
    stored(run)
    assert (tmp_path / "results/tiny.h5").read_bytes() == b"precious"


@pytest.mark.parametrize("room_bytes", [0, 5_000, 20_000])
def test_a_full_disk_is_told_and_leaves_no_half_written_file(run, stored, tmp_path, room_bytes):
    with no_file_larger_than(room_bytes):
        store, troubles = stored(run)
    assert names(tmp_path / "results") == []
    assert store.file("tiny") is None
    (line,) = troubles
    assert "tiny could not be written" in line


def test_a_full_disk_costs_one_result_and_not_the_next(run, stored, tmp_path):
    with no_file_larger_than(5_000):
        stored(run)
    store, _ = stored(run)
    with h5py.File(store.file("tiny")) as file:
        assert file["entry/ledger/stitched"][()] == 50


def test_a_picture_that_cannot_be_replaced_does_not_cost_the_result(run, stored, tmp_path):
    (tmp_path / "results/latest.png").mkdir(parents=True)
    store, troubles = stored(run)
    assert store.file("tiny").name == "tiny.h5"
    assert len(troubles) == 1
    assert names(tmp_path / "results") == ["latest.png", "tiny.h5"]


def test_a_result_that_somebody_took_away_is_not_offered(run, stored):
    store, _ = stored(run)
    store.file("tiny").unlink()
    assert store.file("tiny") is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="results cannot go to"):
        ResultStore(tmp_path / "file" / "results", print)


def test_frames_that_were_refused_are_not_among_the_positions(journey, stream, loaded_bundle, tmp_path):
    start, *frames, end = stream()
    positions_m = start.positions_m.copy()
    positions_m[7] = 1e6
    run = journey().take([replace(start, positions_m=positions_m), *frames, end]).result()
    write_result(tmp_path / "r.h5", run, loaded_bundle)
    with h5py.File(tmp_path / "r.h5") as file:
        assert 7 not in file["entry/frames"][()]
        assert len(file["entry/positions"]) == file["entry/ledger/stitched"][()] == FRAMES - 1
