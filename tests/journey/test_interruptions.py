"""Things that happen to a service while a scan is running."""

from __future__ import annotations

import shutil
import signal

import h5py
import msgspec
import pytest
import zmq

from model.bundle import find_bundle

ENDLESS = 516


def test_a_detector_that_was_armed_before_the_service_came_loses_nothing(serve, processes, tmp_path):
    images, positions = processes.free_endpoint(), processes.free_endpoint()
    settings = {"format": "dectris-v2", "to": images, "positions": positions, "scan": "early", "frames": 60}
    detector = processes.Detector(tmp_path / "early.log", {**settings, "bind": True})
    try:
        service = serve(images=images, images_bind=False, positions=positions, positions_bind=False)
        detector.wait()
        ledger = service.finished("early")["ledger"]
    finally:
        detector.stop()
    assert processes.balanced(ledger)
    assert ledger["stitched"] == 60


def test_a_service_that_is_told_to_stop_finishes_the_scan_and_writes_it(serve, processes):
    service = serve()
    service.replay("cut-short", rate=30)
    processes.until(lambda: service.stitched("cut-short") > 20, "the scan is under way")
    assert service.end(signal.SIGTERM) == 0, service.said()
    with h5py.File(service.results / "cut-short.h5") as file:
        ledger = {
            name: item[()]
            for name, item in file["entry/ledger"].items()
            if name not in ("dropped", "in_words")
        }
        ledger["dropped"] = {reason: frames[()] for reason, frames in file["entry/ledger/dropped"].items()}
        placed = len(file["entry/positions"])
    assert processes.balanced(ledger)
    assert ledger["expected"] == ENDLESS
    assert ledger["stitched"] == placed > 20
    assert (service.results / "latest.png").exists()


@pytest.fixture
def other_bundle(tmp_path):
    """The shipped model under another name."""
    folder = tmp_path / "siemens-star-again"
    shutil.copytree(find_bundle("siemens-star"), folder)
    described = msgspec.json.decode((folder / "model.json").read_bytes())
    (folder / "model.json").write_bytes(msgspec.json.encode(described | {"name": folder.name}))
    return folder


def test_no_frame_is_lost_when_the_model_is_swapped_in_mid_scan(serve, processes, other_bundle):
    tiles = processes.free_endpoint()
    service = serve(tiles=tiles)
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.connect(tiles)
        listener.subscribe(b"tiles/swapped")
        listener.set(zmq.RCVHWM, 0)
        detector = service.replay("swapped", frames=200, rate=30)
        processes.until(lambda: service.stitched("swapped") > 10, "the scan is under way")
        activated = processes.run("model", "activate", other_bundle, "--url", service.url)
        assert (activated.returncode, activated.stdout) == (0, "active: siemens-star-again\n")
        detector.wait()
        report = service.finished("swapped")
        published: list[tuple[str, list[int]]] = []
        while listener.poll(500):
            head = msgspec.msgpack.decode(listener.recv_multipart()[1])
            published.append((head["model"], head["frames"]))
    assert report["ledger"]["stitched"] == report["ledger"]["received"] == 200
    assert sorted(frame for _, frames in published for frame in frames) == list(range(200))
    models = [model for model, _ in published]
    swap = models.index("siemens-star-again")
    assert set(models[:swap]) == {"siemens-star"}
    assert set(models[swap:]) == {"siemens-star-again"}
    assert service.get("/api/status")["model"]["name"] == "siemens-star-again"


def test_a_damaged_model_is_refused_and_the_old_one_goes_on(serve, processes, other_bundle):
    service = serve()
    with (other_bundle / "model.onnx").open("r+b") as file:
        file.write(b"damage")
    refused = processes.run("model", "activate", other_bundle, "--url", service.url)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "sha256" in refused.stderr
    assert service.get("/api/status")["model"]["name"] == "siemens-star"
    assert service.take("after-the-refusal", frames=20)["ledger"]["stitched"] == 20
