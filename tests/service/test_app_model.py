"""Another model while the service runs, over HTTP: no frame is lost, and a bad bundle changes nothing."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import until

PATIENCE_S = 30.0
FRAMES = 64


def damaged(path):
    with (path / "model.onnx").open("ab") as file:
        file.write(b"\0")


def retold(path):
    told = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**told, "tile_shape": [8, 8]}))


def without_probe(path):
    (path / "probe.npy").unlink()


def test_a_hot_swap_in_mid_scan_loses_no_frame(serve, bundle_maker, tmp_path):
    brighter = bundle_maker(tmp_path, "brighter", gain=2.0)
    running = serve()
    sender, messages = running.sender(), running.messages()
    for parts in messages[:31]:
        sender.send_multipart(parts)
    until(lambda: running.app.intakes[0].messages == 31)
    answer = running.http.post("/api/model", json={"bundle": str(brighter)}, timeout=PATIENCE_S)
    assert answer.raise_for_status().json()["name"] == "brighter"
    for parts in messages[31:]:
        sender.send_multipart(parts)
    run = running.finished()
    assert (run.ledger.counts().stitched, run.ledger.counts().dropped) == (FRAMES, {})
    assert run.model == running.get("/api/status")["model"]["name"] == "brighter"


def test_a_swap_between_scans_is_in_metrics_and_status(serve, bundle_maker, tmp_path):
    running = serve()
    smaller = bundle_maker(tmp_path, "smaller", tile=8)
    assert running.http.post("/api/model", json={"bundle": str(smaller)}).is_success
    assert running.metrics()["ptycholive_engine_info"] == {("onnxruntime", "cpu", "smaller"): 1}
    running.replay()
    assert running.finished().ledger.counts().stitched == FRAMES
    assert running.report()["model"] == "smaller"


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(damaged, "copied whole"), (retold, "its description says"), (without_probe, "cannot read")],
)
def test_a_bundle_that_is_not_what_it_says_is_refused_and_the_old_one_goes_on(
    serve, bundle_maker, tmp_path, harm, reason
):
    running = serve()
    bundle = bundle_maker(tmp_path, "harmed")
    harm(bundle)
    sender, messages = running.sender(), running.messages()
    for parts in messages[:31]:
        sender.send_multipart(parts)
    answer = running.http.post("/api/model", json={"bundle": str(bundle)})
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    for parts in messages[31:]:
        sender.send_multipart(parts)
    run = running.finished()
    assert (run.ledger.counts().stitched, run.model) == (FRAMES, "tiny")


@pytest.mark.parametrize("shapes", [{"tile": 8}, {"frame": 64}, {"object_pixel_m": 0.0}])
def test_a_model_that_does_not_fit_the_running_scan_is_refused(serve, bundle_maker, tmp_path, shapes):
    running = serve()
    sender, messages = running.sender(), running.messages()
    for parts in messages[:31]:
        sender.send_multipart(parts)
    until(lambda: running.app.runs.current())
    answer = running.http.post("/api/model", json={"bundle": str(bundle_maker(tmp_path, "other", **shapes))})
    assert answer.status_code == 422
    for parts in messages[31:]:
        sender.send_multipart(parts)
    run = running.finished()
    assert (run.ledger.counts().stitched, run.model) == (FRAMES, "tiny")


def test_an_unknown_bundle_is_refused(serve):
    answer = serve().http.post("/api/model", json={"bundle": "no-such-bundle"})
    assert answer.status_code == 422
    assert "no bundle at 'no-such-bundle'" in answer.json()["error"]


def test_swaps_at_the_same_time_are_done_one_after_the_other(serve, bundle_maker, tmp_path):
    running = serve()
    bundles = [str(bundle_maker(tmp_path, f"b{n}")) for n in range(4)]
    with ThreadPoolExecutor(4) as callers:
        names = [bundle.description.name for bundle in callers.map(running.app.activate, bundles)]
    assert names == ["b0", "b1", "b2", "b3"]
    assert running.get("/api/status")["model"]["name"] in names
