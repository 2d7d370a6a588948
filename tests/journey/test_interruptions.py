"""Things that happen to a service while a scan is running."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

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


@dataclass(frozen=True)
class Published:
    """The batches of a scan as they came out: frame numbers, models and times, one each."""

    frames: list[list[int]]
    models: list[str]
    published_ns: list[int]

    @classmethod
    def of(cls, listener: zmq.Socket[bytes]) -> Published:
        """Take all that waits; nothing more is to come."""
        heads = []
        while listener.poll(500):
            heads.append(msgspec.msgpack.decode(listener.recv_multipart()[1]))
        columns = ([head[name] for head in heads] for name in ("frames", "model", "published_ns"))
        return cls(*columns)

    @property
    def gaps_s(self) -> list[float]:
        """How long each batch but the first came after the one before it."""
        return [(after - before) * 1e-9 for before, after in pairwise(self.published_ns)]

    def longest_s(self, begun_ns: int, ended_ns: int) -> float:
        """Return the longest gap that lies in a span of time at least in part."""
        spans = zip(self.gaps_s, pairwise(self.published_ns), strict=True)
        return max(gap for gap, (before, after) in spans if before < ended_ns and after > begun_ns)


@pytest.mark.long
def test_at_full_rate_a_swap_loses_no_frame_and_delays_no_batch_by_two_batch_times(
    serve, processes, other_bundle, capsys
):
    tiles = processes.free_endpoint()
    service = serve(tiles=tiles, refine=False)
    swaps = []
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.connect(tiles)
        listener.subscribe(b"tiles/swapped")
        listener.set(zmq.RCVHWM, 0)
        detector = service.replay("swapped")  # as fast as it is taken
        for number, bundle in enumerate((str(other_bundle), "siemens-star", str(other_bundle)), 1):
            under_way = number * ENDLESS // 4
            processes.until(lambda least=under_way: service.stitched("swapped") > least, "more is stitched")
            begun_ns = time.time_ns()
            service.http.post("/api/model", json={"bundle": bundle}, timeout=60).raise_for_status()
            swaps.append((begun_ns, time.time_ns()))
        detector.wait()
        report = service.finished("swapped")
        published = Published.of(listener)
    assert report["ledger"]["stitched"] == report["ledger"]["received"] == ENDLESS
    assert sorted(frame for frames in published.frames for frame in frames) == list(range(ENDLESS))
    names = [name for name, _ in groupby(published.models)]
    assert names == ["siemens-star", "siemens-star-again"] * 2
    batch_s = median(published.gaps_s)
    longest_s = [published.longest_s(*swap) for swap in swaps]
    with capsys.disabled():
        print(f"\n{in_words(batch_s, longest_s, swaps)}")
    assert max(longest_s) - batch_s < 2 * batch_s
    assert service.get("/api/status")["model"]["name"] == "siemens-star-again"


def in_words(batch_s: float, longest_s: list[float], swaps: list[tuple[int, int]]) -> str:
    """Return one line for whoever waits: what the swaps cost."""
    asked_s = ", ".join(f"{(ended - begun) * 1e-9:.2f}" for begun, ended in swaps)
    delays = ", ".join(f"{longest / batch_s - 1:.2f}" for longest in longest_s)
    return (
        f"{len(swaps)} swaps at full rate, done {asked_s} s after they were asked for: a batch comes every "
        f"{batch_s * 1e3:.0f} ms, and during a swap later by at most {delays} batch times"
    )


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
