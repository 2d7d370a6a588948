"""What a retraining decides, tells, writes down and asks of a running service."""

import json

import pytest
from answering import answering
from click.testing import CliRunner

from model.bundle import BUNDLES, load_bundle
from model.scans import open_scan, write_scan
from training.registry import Lineage, Registry
from training.retrain import command, find_parent
from training.retraining.contest import Bout, Judged, refusals
from training.retraining.hot_swap import ServiceRefusedError, swap
from training.retraining.report import REPORT, figures_of, write_findings
from training.retraining.teaching import plan_for


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

    def answer(asked):
        order = json.loads(asked.rfile.read(int(asked.headers["Content-Length"])))
        heard.append((asked.path, order["bundle"], asked.headers["Authorization"]))
        known = asked.headers["Authorization"] == "Bearer secret"
        told = {"name": "today"} if known else {"error": "a token is asked for"}
        return 200 if known else 401, json.dumps(told).encode()

    with answering(answer) as address:
        yield f"http://{address}", heard


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
