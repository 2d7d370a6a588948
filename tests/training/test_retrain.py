"""A beam that drifted, the model that no longer holds, and the one that takes its place."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from click.testing import CliRunner

from model.bundle import BUNDLES, load_bundle
from model.scans import open_scan, write_scan
from training.checkpoint import read_checkpoint
from training.registry import Lineage, Registry
from training.retrain import command, find_parent
from training.retraining.contest import Bout, Judged, refusals
from training.retraining.hot_swap import ServiceRefusedError, swap
from training.retraining.report import REPORT, figures_of, write_findings
from training.retraining.teaching import plan_for
from training.simulation.raster import ScanRecipe, simulate_scan

PIXEL_M = 2e-8  # of conftest's geometry


def retrain(*words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def unlabelled(turned_scan, tmp_path_factory):
    """A scan as a recorder leaves it, without a reconstruction."""
    path = tmp_path_factory.mktemp("recorded") / "scan7.h5"
    with open_scan(turned_scan) as scan:
        geometry = {n: getattr(scan, n) for n in ("wavelength_m", "distance_m", "detector_pixel_m")}
        write_scan(path, scan.frames(), scan.positions_m, **geometry)
    return path


@pytest.fixture
def service():
    """An HTTP server that answers a swap as the service does, and keeps what it was sent."""
    heard = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.path, order["bundle"], self.headers["Authorization"]))
            known = self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(
                json.dumps({"name": "today"} if known else {"error": "a token is asked for"}).encode()
            )

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


def bout(parent, candidate, empty=0.8, decides=True):
    before = None if parent is None else Judged(parent, empty, 0.9)
    return Bout("all of scan7.h5", before, Judged(candidate, empty, None), decides)


@pytest.mark.parametrize(
    ("parent", "candidate", "accepted"),
    [
        (0.20, 0.10, True),
        (0.20, 0.2019, True),
        (0.20, 0.2021, False),
        (None, 0.79, True),
        (None, 0.81, False),
        (0.90, 0.85, False),  # better than its parent, and yet no better than no object
        (0.20, float("nan"), False),
    ],
)
def test_a_candidate_may_be_one_percent_worse_and_has_to_explain_something(parent, candidate, accepted):
    found = bout(parent, candidate)
    assert found.accepted is accepted
    assert refusals([found]) == ([] if accepted else [found])


def test_an_older_scan_is_told_about_and_refuses_nothing():
    assert refusals([bout(0.1, 0.5, decides=False), bout(0.5, 0.1)]) == []


def test_the_report_shows_both_columns_and_why(tmp_path):
    bouts = [bout(0.2, 0.31)]
    lineage = Lineage(
        name="today", onnx_sha256="a" * 64, probe_sha256="b" * 64, date="now", figures=figures_of(bouts)
    )
    write_findings(tmp_path, lineage, bouts)
    page = (tmp_path / REPORT).read_text()
    for word in ("0.2000", "0.3100", "0.2020", "The candidate is worse here. This decides.", "a" * 64):
        assert word in page
    assert json.loads(json.dumps(figures_of(bouts)))[0]["candidate"]["residual"] == 0.31


def test_without_a_parent_the_plan_is_the_default_with_the_newest_probe(scan):
    plan = plan_for(scan, None, {"samples": 6000, "width": None})
    assert (plan.probe, plan.start, plan.samples, plan.width, plan.validations) == (scan, None, 6000, 32, 3)


def test_a_parent_from_outside_is_taken_in_and_is_what_a_roll_back_finds(tmp_path):
    registry = Registry(tmp_path)
    assert find_parent(registry, "active") is None
    entry = find_parent(registry, "siemens-star")
    assert registry.active() == entry == find_parent(registry, entry.name)
    shipped = load_bundle(BUNDLES / "siemens-star").description
    assert entry.bundle().description == shipped
    assert plan_for(BUNDLES / "siemens-star" / shipped.probe.file, entry, {}).start is None


def test_a_service_takes_the_bundle_with_its_token(service, tmp_path):
    url, heard = service
    assert swap(url, "secret", tmp_path) == "today"
    assert heard == [("/api/model", str(tmp_path), "Bearer secret")]


def test_what_a_service_answers_instead_is_told(service, tmp_path):
    with pytest.raises(ServiceRefusedError, match="a token is asked for"):
        swap(service[0], None, tmp_path)
    with pytest.raises(ServiceRefusedError, match="no service of ours answers"):
        swap("http://127.0.0.1:9", None, tmp_path)
    with pytest.raises(ValueError, match="not the http:// address"):
        swap("file:///etc", None, tmp_path)


def test_rolling_back_changes_nothing_where_the_service_refuses(service, tmp_path):
    registry = Registry(tmp_path)
    first = find_parent(registry, "siemens-star")
    second = first.path.with_name("today-0")
    second.mkdir()
    for file in first.path.iterdir():
        (second / file.name).write_bytes(file.read_bytes())
    registry.activate(registry.entry("today-0"), "retrained", "now")
    back = ("--registry", tmp_path, "--rollback", "--service", service[0], "--token")
    refused = retrain(*back, "wrong")
    assert (refused.exit_code, "nothing was activated" in refused.output) == (1, True)
    assert registry.active().name == "today-0"
    done = retrain(*back, "secret")
    assert done.exit_code == 0, done.output
    assert registry.active() == first
    assert registry.history()[-1].reason == "rolled back"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "give a SCAN to retrain on"),
        ("{scan} --rollback", "give a SCAN to retrain on"),
        ("--rollback", "no bundle is in use"),
        ("{scan}", "no --parent whose probe"),
        ("{scan} --parent nowhere", "no bundle at 'nowhere'"),
        ("{scan} --parent siemens-star", "a probe of (128, 128) for frames of (32, 32)"),
        ("nowhere.h5", "nowhere.h5"),
    ],
)
def test_what_cannot_be_retrained_is_told_in_one_line(unlabelled, tmp_path, words, reason):
    done = retrain(*words.format(scan=unlabelled).split(), "--registry", tmp_path / "bundles")
    assert done.exit_code == 2, done.output
    assert reason in done.output.splitlines()[-1]


def beam(curvature):
    """Two modes on 32 x 32 pixels; the curvature of the wave goes with the focus."""
    y, x = np.mgrid[:32, :32] - 16.0
    r2 = y**2 + x**2
    first = np.exp(-r2 / 60 + 1j * curvature * r2)
    modes = np.stack([first, 0.2 * x * first])
    return (np.sqrt(50_000 / np.square(np.abs(modes)).sum()) * modes).astype(np.complex64)


def record(path, probe, labelled, seed):
    recipe = ScanRecipe(("polygons",), frames=400, step_px=6, jitter_px=0, seed=seed)
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


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_probe_that_drifted_is_learned_and_what_is_worse_is_refused(tmp_path):
    before = record(tmp_path / "before.cxi", beam(0.06), labelled=True, seed=1)
    drifted = record(tmp_path / "drifted.h5", beam(0.02), labelled=False, seed=2)
    registry = Registry(tmp_path / "bundles")
    common = ("--registry", registry.folder, "--samples", 6400, "--tiles", 4, "--devices", 1)
    shape = ("--tile", 24, "--width", 8, "--steps", 1)

    done = retrain(before, *common, *shape, "--name", "tiny")
    assert done.exit_code == 0, done.output
    first = registry.active()
    assert first.checkpoint is not None

    done = retrain(before, drifted, *common, "--label-iterations", 40, "--token", "secret")
    assert done.exit_code == 0, done.output
    second, lineage = registry.active(), registry.active().lineage()
    (older, newest) = lineage.figures
    assert (older["decides"], newest["decides"]) == (False, True)
    assert newest["candidate"]["residual"] < 0.5 * newest["parent"]["residual"]
    assert lineage.parent_sha256 == first.lineage().onnx_sha256
    assert [scan.file for scan in lineage.scans] == ["before.cxi", "drifted.h5"]
    assert "secret" not in (second.path / "lineage.json").read_text()
    assert (second.path / REPORT).is_file()
    start = read_checkpoint(second.checkpoint).record["start"]
    assert start["checkpoint"] == str(first.checkpoint)

    brief = ("--samples", 320, "--batch", 16, "--name", "untaught")
    other = Registry(tmp_path / "other")
    adopted = find_parent(other, str(second.path))
    refused = retrain(drifted, *common, *shape, *brief, "--registry", other.folder, "--label-iterations", 40)
    assert refused.exit_code == 1, refused.output
    assert refused.output.splitlines()[-1].startswith("refused: forward residual")
    assert other.active() == adopted
    (untaught,) = (entry for entry in other.entries() if entry.name.startswith("untaught-"))
    assert untaught.lineage().accepted is False
    assert "The candidate is worse here." in (untaught.path / REPORT).read_text()

    done = retrain("--registry", registry.folder, "--rollback")
    assert done.exit_code == 0, done.output
    assert registry.active() == first
