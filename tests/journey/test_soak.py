"""A long shift: scans with every fault the wire knows, one after the other, against one service.

`make soak MINUTES=60` runs it for an hour; without a number it takes `MINUTES` minutes. One scan of very many
frames, without sockets, is as long as `SOAK_FRAMES` says.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from model.bundle import load_bundle
from model.scans import open_scan, write_scan
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.faults import Faults
from service.messages import Image, Positions, ScanEnd, ScanStart
from service.outlets import Destination
from service.reconstruct import JourneySettings, Reconstruction
from service.replay import ReplayPlan, run_replay

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
FRAMES = 256
FAULTS = "drop=0.03,dup=0.03,reorder=0.05,late=0.05"
RATE_HZ = 400.0
WARM_UP = 0.3  # of the shift: caches fill, and as many scans are kept as ever will be
MOST_GROWTH_MIB = 4.0  # from the first to the second half of what follows, by their medians, however long
MANY_FRAMES = int(os.environ.get("SOAK_FRAMES", "100000"))
MOST_BYTES_A_FRAME = 128  # where it was and what became of it take some 45
MOST_ADDED = 4  # threads of pools that were not full; one a scan would be dozens

pytestmark = [pytest.mark.long, pytest.mark.timeout(MINUTES * 60 + 300)]


@dataclass(frozen=True)
class Vitals:
    """What the service's process holds after a scan."""

    resident_mib: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Vitals:
        told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        resident_mib = int(told["VmRSS"].split()[0]) / 1024
        return cls(resident_mib, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(told["Threads"]))


@pytest.fixture(scope="module")
def long_scan(tiny_scan, tmp_path_factory):
    """Return the small scan, gone through four times one below the other."""
    with open_scan(tiny_scan) as scan:
        counts, positions_m = scan.frames(), scan.positions_m
        told = {name: getattr(scan, name) for name in ("wavelength_m", "distance_m", "detector_pixel_m")}
    times = FRAMES // len(counts)
    below_m = np.ptp(positions_m[:, 0]) * np.repeat(np.arange(times), len(counts))
    path = tmp_path_factory.mktemp("scans") / "long.cxi"
    tracks_m = np.tile(positions_m, (times, 1)) + np.column_stack([below_m, np.zeros(FRAMES)])
    write_scan(path, np.tile(counts, (times, 1, 1)), tracks_m, **told)
    return path


@contextmanager
def a_viewer_looks_on(service):
    """Read the live page's stream to the end, as a browser does."""

    def read(socket):
        try:
            for _ in socket:
                pass
        except ConnectionClosed:
            pass

    with connect(service.url.replace("http", "ws") + "/api/live", proxy=None) as socket:
        reader = threading.Thread(target=read, args=(socket,))
        reader.start()
        yield
        socket.close()
        reader.join()


def take(service, scan, number) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stream a scan with faults of its own; return its ledger, and what the ledger must say."""
    faults = Faults.parse(f"{FAULTS},seed={number}")
    plan = ReplayPlan(
        f"shift-{number:05d}", format="dectris-v2", rate_hz=RATE_HZ, faults=faults, positions="stream"
    )
    run_replay(scan, plan, Destination(*service.endpoints()))
    sent = list(faults.applied(range(FRAMES)))
    lost = FRAMES - len(set(sent))
    must = {
        "expected": FRAMES, "received": len(sent), "stitched": len(set(sent)),
        "duplicates": len(sent) - len(set(sent)), "dropped": {"never_arrived": lost} if lost else {},
    }  # fmt: skip
    return service.finished(plan.scan)["ledger"], must


def in_words(vitals: list[Vitals], settled: list[Vitals]) -> str:
    """Return one line for whoever waits: how much was done, and what it cost."""
    return (
        f"{len(vitals)} scans in {MINUTES:g} min: {vitals[0].resident_mib:.0f} MiB after the first, "
        f"{settled[0].resident_mib:.0f} after warming up, {settled[-1].resident_mib:.0f} after the last; "
        f"descriptors {sorted({one.descriptors for one in settled})}, "
        f"threads {sorted({one.threads for one in settled})}"
    )


def test_a_shift_of_disturbed_scans_leaves_exact_ledgers_and_a_service_as_it_was(
    serve, processes, tiny_bundle, long_scan, capsys
):
    service = serve(bundle=tiny_bundle, threads=1, end_grace_s=0.3, keep_scans=4)
    service.http.timeout = processes.PATIENCE_S  # the machine may be busy
    pid, until_s = service.process.pid, time.monotonic() + MINUTES * 60
    vitals: list[Vitals] = []
    with open_scan(long_scan) as scan, a_viewer_looks_on(service):
        for number in itertools.count():
            if time.monotonic() > until_s:
                break
            ledger, must = take(service, scan, number)
            assert processes.balanced(ledger)
            assert {name: ledger[name] for name in must} == must
            assert set(service.metrics()["ptycholive_queue_frames"].values()) == {0}
            vitals.append(Vitals.of(pid))
    assert service.process.poll() is None
    settled = vitals[int(WARM_UP * len(vitals)) :]
    with capsys.disabled():
        print("\n" + in_words(vitals, settled))
    early, late = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    growth_mib = np.median([one.resident_mib for one in late]) - np.median(
        [one.resident_mib for one in early]
    )
    assert growth_mib < MOST_GROWTH_MIB
    for held in ("descriptors", "threads"):  # their lowest number: a request or a writing may add some
        added = min(getattr(one, held) for one in late) - min(getattr(one, held) for one in early)
        assert added <= MOST_ADDED, held


class Nobody:
    """Listens to a scan and keeps nothing but that it is over."""

    def __init__(self):
        self.finished = None

    def scan_started(self, run):
        pass

    def batch_stitched(self, run, painted):
        pass

    def scan_finished(self, run):
        self.finished = run

    def stray(self, line):
        raise AssertionError(line)


def test_a_scan_of_very_many_frames_keeps_a_few_bytes_of_each(tiny_bundle, long_scan, capsys):
    with open_scan(long_scan) as scan:
        counts, positions_m = scan.frames(), scan.positions_m
    listener, vitals = Nobody(), []
    engine = OnnxRuntimeEngine(load_bundle(tiny_bundle), threads=1)
    journey = Reconstruction(engine, JourneySettings(batch_frames=64), listener, time.time_ns)
    journey.handle(ScanStart("endless", counts.shape[1:], counts.dtype, MANY_FRAMES), 0.0)
    for first in range(0, MANY_FRAMES, FRAMES):
        journey.handle(Positions("endless", first, positions_m), first * 1e-3)
        for index in range(first, min(first + FRAMES, MANY_FRAMES)):
            journey.handle(Image("endless", index, counts[index % FRAMES], time.time_ns()), index * 1e-3)
        vitals.append(Vitals.of(os.getpid()).resident_mib)
    journey.handle(ScanEnd("endless", MANY_FRAMES), MANY_FRAMES * 1e-3)
    assert listener.finished.ledger.counts().stitched == MANY_FRAMES
    settled = vitals[int(WARM_UP * len(vitals)) :]
    per_frame = (settled[-1] - settled[0]) * 2**20 / (FRAMES * (len(settled) - 1))
    with capsys.disabled():
        grown = f"{settled[0]:.0f} to {settled[-1]:.0f} MiB"
        print(f"\n{MANY_FRAMES} frames: {grown}, {per_frame:.0f} bytes a frame")
    assert per_frame < MOST_BYTES_A_FRAME
