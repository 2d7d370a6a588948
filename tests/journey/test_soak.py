"""A long shift: scans with every fault the wire knows, one after the other, against one service.

`make soak MINUTES=60` runs it for an hour; without a number it takes `MINUTES` minutes.
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

from model.scans import open_scan, write_scan
from service.faults import Faults
from service.outlets import Destination
from service.replay import ReplayPlan, run_replay

MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
FRAMES = 256
FAULTS = "drop=0.03,dup=0.03,reorder=0.05,late=0.05"
RATE_HZ = 400.0
WARM_UP = 0.3  # of the shift: caches fill, and as many scans are kept as ever will be
MOST_GROWTH_MIB = 4.0  # from the first to the second half of what follows, by their medians, however long
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
