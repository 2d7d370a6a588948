"""A beam drifts under a running service: noticed, recorded, learned, swapped in, and rolled back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from model.scans import open_scan, write_scan
from service.outlets import Destination
from service.replay import ReplayPlan, run_replay
from training.checkpoint import read_checkpoint
from training.registry import Entry, Registry
from training.retrain import command, find_parent
from training.retraining.report import REPORT
from training.simulation.raster import ScanRecipe, simulate_scan

PIXEL_M = 2e-8
FRAMES = 400
SHAPE = ("--tile", 24, "--width", 8, "--steps", 1)
BRIEF = ("--tiles", 4, "--devices", 1, "--label-iterations", 40)
TAUGHT = ("--samples", 6400)
RATE_HZ = 200.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def retrain(registry: Path, *words: object) -> Any:
    told = [str(word) for word in (*words, "--registry", registry)]
    return CliRunner().invoke(command, told, catch_exceptions=False)


def beam(curvature: float) -> np.ndarray:
    """Two modes on 32 x 32 pixels; the curvature of the wave goes with the focus."""
    y, x = np.mgrid[:32, :32] - 16.0
    r2 = y**2 + x**2
    first = np.exp(-r2 / 60 + 1j * curvature * r2)
    modes = np.stack([first, 0.2 * x * first])
    return (np.sqrt(50_000 / np.square(np.abs(modes)).sum()) * modes).astype(np.complex64)


def measure(path: Path, probe: np.ndarray, seed: int, *, labelled: bool) -> Path:
    recipe = ScanRecipe(("polygons",), frames=FRAMES, step_px=6, jitter_px=0, seed=seed)
    counts, truth = simulate_scan(probe, PIXEL_M, recipe)
    write_scan(
        path,
        counts,
        (truth.positions_px + 16) * PIXEL_M,
        wavelength_m=1e-10,
        distance_m=PIXEL_M * 32 * 75e-6 / 1e-10,
        detector_pixel_m=75e-6,
        reference=truth if labelled else None,
    )
    return path


@dataclass(frozen=True)
class Shift:
    """What happened, and what the service told of its scans.

    Attributes:
        registry: both models are in it.
        first, second: before and after the retraining.
        recording: of the scan with the drifted beam.
        reports: of the scans, by name.
    """

    registry: Registry
    first: Entry
    second: Entry
    recording: Path
    reports: dict[str, dict[str, Any]]

    def residual(self, scan: str) -> float:
        return self.reports[scan]["trust"]["residual_median"]


def stream(service: Any, path: Path, name: str, rate_hz: float | None = None) -> None:
    with open_scan(path) as scan:
        run_replay(scan, ReplayPlan(name, rate_hz=rate_hz), Destination(*service.endpoints()))


@pytest.fixture(scope="module")
def shift(serve: Any, processes: Any, tmp_path_factory: pytest.TempPathFactory) -> Shift:
    """Everything in turn; the roll-back comes in the middle of a scan."""
    folder = tmp_path_factory.mktemp("shift")
    before = measure(folder / "before.cxi", beam(0.06), 1, labelled=True)
    drifted = measure(folder / "drifted.cxi", beam(0.02), 2, labelled=False)
    registry = Registry(folder / "bundles")
    done = retrain(registry.folder, before, *BRIEF, *TAUGHT, *SHAPE, "--name", "tiny")
    assert done.exit_code == 0, done.output
    first = registry.active()
    service = serve(
        images_format="native", bundle=registry.folder / "active", record=folder / "recordings",
        refine=False, threads=1,
    )  # fmt: skip
    reports = {}
    for name, path in (("before", before), ("drifted", drifted)):
        stream(service, path, name)
        reports[name] = service.finished(name)
    recording = folder / "recordings/drifted.cxi"
    processes.until(recording.exists, "the recording is whole")
    running = ("--service", service.url, "--token", "secret")
    done = retrain(registry.folder, before, recording, *BRIEF, *TAUGHT, *running, "--name", "refocused")
    assert done.exit_code == 0, done.output
    second = registry.active()
    stream(service, drifted, "retrained")
    reports["retrained"] = service.finished("retrained")
    detector = threading.Thread(target=stream, args=(service, drifted, "rolled-back", RATE_HZ))
    detector.start()
    processes.until(lambda: service.stitched("rolled-back") > FRAMES // 8, "the scan is under way")
    done = retrain(registry.folder, "--rollback", *running)
    assert done.exit_code == 0, done.output
    detector.join()
    reports["rolled-back"] = service.finished("rolled-back")
    return Shift(registry, first, second, recording, reports)


def test_a_beam_that_drifted_makes_the_residual_rise_and_the_alarm_names_the_command(shift):
    assert shift.reports["before"]["trust"]["state"] == "good"
    assert shift.reports["drifted"]["trust"]["state"] == "residual"
    assert shift.residual("drifted") > 2 * shift.residual("before")
    assert any("`ptycholive retrain`" in line for line in shift.reports["drifted"]["warnings"])


def test_retraining_on_what_was_recorded_brings_the_residual_back(shift):
    assert shift.reports["retrained"]["model"] == "refocused"
    assert shift.residual("retrained") < 0.5 * shift.residual("drifted")
    assert shift.reports["retrained"]["trust"]["state"] == "good"


def test_the_new_model_says_where_it_comes_from_and_what_it_is_worth(shift):
    lineage = shift.second.lineage()
    older, newest = lineage.figures
    assert (older["decides"], newest["decides"]) == (False, True)
    assert newest["candidate"]["residual"] < 0.5 * newest["parent"]["residual"]
    assert lineage.parent_sha256 == shift.first.lineage().onnx_sha256
    assert [scan.file for scan in lineage.scans] == ["before.cxi", "drifted.cxi"]
    assert "secret" not in (shift.second.path / "lineage.json").read_text()
    assert (shift.second.path / REPORT).is_file()
    start = read_checkpoint(shift.second.checkpoint).record["start"]
    assert start["checkpoint"] == str(shift.first.checkpoint)


def test_a_roll_back_in_the_middle_of_a_scan_loses_no_frame(shift):
    report = shift.reports["rolled-back"]
    assert (report["ledger"]["stitched"], report["ledger"]["dropped"]) == (FRAMES, {})
    assert any("in the middle of the scan, from refocused" in line for line in report["warnings"])
    assert (report["model"], shift.registry.active()) == ("tiny", shift.first)


def test_a_candidate_that_is_worse_is_refused_and_its_report_shows_why(shift, tmp_path):
    other = Registry(tmp_path)
    adopted = find_parent(other, str(shift.second.path))
    brief = ("--samples", 320, "--batch", 16, "--name", "untaught")
    refused = retrain(other.folder, shift.recording, *BRIEF, *SHAPE, *brief)
    assert refused.exit_code == 1, refused.output
    assert refused.output.splitlines()[-1].startswith("refused: forward residual")
    assert other.active() == adopted
    (untaught,) = (entry for entry in other.entries() if entry.name.startswith("untaught-"))
    assert untaught.lineage().accepted is False
    assert "The candidate is worse here." in (untaught.path / REPORT).read_text()
