"""What an operator can tell a running service over HTTP: abort a scan, turn the frames of the next one."""

from waiting import until

FRAMES = 64


def begin(running, messages):
    """Send the first half of a scan, and wait until it is there."""
    sender, half = running.sender(), len(messages) // 2
    for parts in messages[:half]:
        sender.send_multipart(parts)
    until(lambda: (run := running.app.runs.current()) and run.ledger.counts().received >= 16)
    until(lambda: running.app.inbox.frames == 0 and running.app.intakes[0].messages == half)
    return sender, messages[half:]


def test_an_aborted_scan_ends_at_once_with_its_result(serve):
    running = serve(end_grace_s=10.0)
    sender, rest = begin(running, running.messages())
    told = running.http.post("/api/scans/tiny/abort").raise_for_status().json()
    assert told["finished"] is not None
    assert "the scan was aborted" in told["warnings"]
    run = running.finished()
    counts = run.ledger.counts()
    assert 0 < counts.stitched < FRAMES
    assert counts.stitched + counts.dropped["never_arrived"] == FRAMES
    assert told["missing"] == [[counts.received, FRAMES - 1]] or told["missing"] == []
    for parts in rest:  # the detector goes on: its frames are strays, and no scan begins again
        sender.send_multipart(parts)
    until(lambda: running.metrics()["ptycholive_stray_frames_total"][()] > 0)
    running.replay(scan="next")
    assert running.finished("next").ledger.counts().stitched == FRAMES


def test_a_scan_that_does_not_run_cannot_be_aborted(serve):
    running = serve()
    running.replay()
    running.finished()
    answer = running.http.post("/api/scans/tiny/abort")
    assert (answer.status_code, answer.json()["error"][:24]) == (422, "scan tiny is not running")
    assert running.http.post("/api/scans/moon/abort").status_code == 404


def test_tiles_are_aligned_from_the_next_scan_on(serve):
    running = serve()
    sender, rest = begin(running, running.messages())
    answer = running.http.post("/api/alignment", json={"on": True})
    assert answer.raise_for_status().json() == {"gauge_alignment": True}
    for parts in rest:
        sender.send_multipart(parts)
    assert running.finished().report(0)["gauge_alignment"] is False
    assert running.get("/api/status")["gauge_alignment"] is True
    running.replay(scan="aligned")
    assert running.finished("aligned").report(0)["gauge_alignment"] is True
    assert running.http.post("/api/alignment", json={"on": "yes"}).status_code == 422


def test_frames_are_turned_between_scans_only(serve):
    running = serve()
    turn = {"frames": "rotate90", "positions": "x,-y"}
    sender, rest = begin(running, running.messages())
    refusal = running.http.post("/api/orientation", json=turn)
    assert (refusal.status_code, "between scans" in refusal.json()["error"]) == (422, True)
    for parts in rest:
        sender.send_multipart(parts)
    running.finished()
    assert running.http.post("/api/orientation", json=turn).raise_for_status().json() == turn
    assert running.get("/api/status")["orientation"] == turn
    running.replay(scan="turned")
    framing = running.finished("turned").report(0)["geometry"]["framing"]
    assert (framing["orientation"], framing["positions_axes"]) == ("rotate90", "x,-y")
    unknown = running.http.post("/api/orientation", json={**turn, "frames": "sideways"})
    assert (unknown.status_code, "'sideways'" in unknown.json()["error"]) == (422, True)


def test_the_bundles_beside_the_one_that_runs_are_listed(serve, bundle_maker, tmp_path, tiny_bundle):
    (bundle_maker(tmp_path, "harmed") / "model.onnx").write_bytes(b"")
    running = serve(bundle=str(bundle_maker(tmp_path, "other")))
    listed = {each["name"]: each for each in running.get("/api/models")}
    assert "siemens-star" in listed
    assert [name for name, each in listed.items() if each["active"]] == ["other"]
    assert listed["harmed"]["refused"] is not None
