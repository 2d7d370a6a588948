"""What is kept of a running scan, and what the next service makes of it."""

import shutil

import numpy as np
import pytest
from damage import turn_a_bit
from waiting import until

from service.ledger import Ledger
from service.messages import ScanStart, Tiles
from service.mosaic import Mosaic
from service.resume.arrivals import Arrivals, read_arrivals
from service.resume.keeper import RunKeeper
from service.resume.leftover import find_leftovers
from service.resume.sealed import SnapshotError, read_sealed, write_sealed
from service.sources import Received

RUNNING = ".running"
FRAMES, KEPT = 64, 20
QUIET = {"refine": False, "snapshot_s": 0.05, "images_format": "native"}


def next_snapshot(results):
    (snapshot,) = until(lambda: list((results / RUNNING).glob("*/snapshot")))
    before_ns = snapshot.stat().st_mtime_ns
    until(lambda: snapshot.stat().st_mtime_ns > before_ns)


@pytest.fixture
def left(serve, tmp_path):
    """Return a folder of results in which a scan was running: 20 of its frames are in the snapshot."""
    service = serve(**QUIET)
    sender = service.sender()
    for message in service.messages()[: KEPT + 1]:
        sender.send_multipart(message)
    until(lambda: service.stitched() == KEPT)
    next_snapshot(service.results)
    next_snapshot(service.results)
    results = tmp_path / "after"
    shutil.copytree(service.results / RUNNING, results / RUNNING)
    service.stop()
    assert not (service.results / RUNNING).exists(), "a stopped service leaves nothing to go on with"
    return results


def kept(results, name):
    (path,) = (results / RUNNING).glob(f"*/{name}")
    return path


def send_rest(service):
    sender = service.sender()
    for message in service.messages()[KEPT + 1 :]:
        sender.send_multipart(message)


def test_a_scan_goes_on_where_the_service_before_was_killed(serve, left):
    service = serve(results=str(left), **QUIET)
    until(lambda: service.stitched() == KEPT)
    assert service.app.runs.get("tiny").placed()[0].tolist() == list(range(KEPT))
    send_rest(service)
    run = service.finished()
    assert (run.ledger.counts().stitched, run.ledger.counts().dropped) == (FRAMES, {})
    assert service.report()["resumed"][0]["kept"] == KEPT
    assert service.metrics()["ptycholive_frames_total"]["stitched",] == FRAMES


def test_a_scan_whose_stream_never_comes_back_is_ended_with_its_result(serve, left):
    service = serve(results=str(left), idle_end_s=0.3, **QUIET)
    counts = service.finished().ledger.counts()
    assert (counts.expected, counts.stitched, counts.dropped) == (
        FRAMES,
        KEPT,
        {"never_arrived": FRAMES - KEPT},
    )
    assert any("since the service is back" in line for line in service.report()["warnings"])
    until(lambda: not list(left.glob(f"{RUNNING}/*")))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def of_another_version(path):
    content = bytearray(path.read_bytes())
    content[8] = 99
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, turn_a_bit, of_another_version])
@pytest.mark.parametrize("name", ["snapshot", "opening"])
def test_a_damaged_snapshot_is_put_aside_with_one_line_and_the_service_runs(serve, left, name, damage):
    damage(kept(left, name))
    service = serve(results=str(left), **QUIET)
    (line,) = service.get("/api/status")["warnings"]
    assert "is put aside" in line
    assert name in line
    assert list(left.glob("put-aside/tiny.*/arrivals"))
    assert service.report() is None
    service.replay()
    assert service.finished().ledger.counts().stitched == FRAMES


def test_a_scan_whose_mosaic_is_damaged_begins_anew(serve, left):
    cut(kept(left, "block.0.0.*"))
    service = serve(results=str(left), **QUIET)
    send_rest(service)
    counts = service.finished().ledger.counts()
    assert (counts.stitched, counts.dropped) == (FRAMES - KEPT, {"never_arrived": KEPT})
    assert any("block.0.0" in line for line in service.get("/api/status")["warnings"])


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"bundle": "other"}, "the model tiny"), ({"positions_axes": "-y,x"}, "orientation, crop, bin")],
)
def test_a_snapshot_of_another_model_or_geometry_is_put_aside_and_the_scan_begins_anew(
    serve, left, bundle_maker, tmp_path, changed, why
):
    if "bundle" in changed:
        changed = {"bundle": str(bundle_maker(tmp_path, "other", gain=2.0))}
    service = serve(results=str(left), **QUIET, **changed)
    assert any("is put aside" in line and why in line for line in service.get("/api/status")["warnings"])
    send_rest(service)
    assert service.finished().ledger.counts().stitched == FRAMES - KEPT
    assert service.report()["resumed"] == []


def test_of_two_services_with_one_folder_the_second_says_that_it_cannot_go_on_if_it_is_killed(serve, left):
    first = serve(results=str(left), **QUIET)
    until(lambda: first.stitched() == KEPT)
    second = serve(results=str(left), **QUIET)
    (line,) = second.get("/api/status")["warnings"]
    assert "another service writes its results" in line
    assert second.report() is None


def test_a_service_that_cannot_keep_the_scan_says_so_and_stitches(serve, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / RUNNING).write_text("in the way")
    service = serve(results=str(results), **QUIET)
    service.replay()
    assert service.finished().ledger.counts().stitched == FRAMES
    assert any("cannot be kept" in line for line in service.get("/api/status")["warnings"])


def test_arrivals_are_counted_beyond_their_first_room_and_stay(tmp_path):
    path = tmp_path / "arrivals"
    arrivals = Arrivals(path)
    assert not arrivals.any
    for index in (0, 2, 2, 70_000):
        arrivals.note(index)
    counts = read_arrivals(path)
    assert len(counts) == 70_001
    assert {int(n): int(counts[n]) for n in np.flatnonzero(counts)} == {0: 1, 2: 2, 70_000: 1}
    arrivals.close()
    again = Arrivals(path)
    assert again.any
    again.note(1)
    again.close()
    assert read_arrivals(path)[:3].tolist() == [1, 1, 2]


def test_frames_that_come_after_the_restart_were_not_lost_before_it(left):
    (found,), refused = find_leftovers(left / RUNNING)
    arrivals = Arrivals(kept(left, "arrivals"))
    arrivals.note(KEPT)  # as soon as the sockets are open, before the mosaic is read
    arrivals.close()
    assert found.arrivals.tolist() == [1] * KEPT
    assert refused == []


def test_of_two_scans_of_one_name_the_one_that_was_begun_last_goes_on(serve, left):
    (path,) = (left / RUNNING).iterdir()
    shutil.copytree(path, left / RUNNING / "tiny.1")
    service = serve(results=str(left), **QUIET)
    until(lambda: service.stitched() == KEPT)
    assert any("begun anew under the same name" in line for line in service.get("/api/status")["warnings"])
    send_rest(service)
    assert service.finished().ledger.counts().stitched == FRAMES


def test_starts_that_never_become_a_scan_leave_only_a_few_folders(tmp_path):
    keeper = RunKeeper(tmp_path, 1.0, pytest.fail, pytest.fail)
    for number in range(20):
        start = ScanStart(f"scan-{number}", (2, 2), np.dtype("<u2"))
        keeper.hear(Received((start,), 1, parts=[b"start"], received_ns=1))
    until(lambda: len(list((tmp_path / RUNNING).iterdir())) <= 4)
    keeper.close()
    assert not (tmp_path / RUNNING).exists()


def test_a_sealed_file_is_whole_or_refused(tmp_path):
    path = tmp_path / "sealed"
    write_sealed(path, b"content")
    assert read_sealed(path) == b"content"
    for damage in (turn_a_bit, cut, of_another_version, lambda path: path.write_bytes(b"")):
        write_sealed(path, b"content")
        damage(path)
        with pytest.raises(SnapshotError, match="sealed"):
            read_sealed(path)
    path.unlink()
    with pytest.raises(SnapshotError, match="cannot be read"):
        read_sealed(path)


def ledger_with_all_fates():
    """Return a ledger in which frame 0 is stitched, 1 dropped, 2 under way, 3 came twice, 4 is missing."""
    ledger = Ledger(6)
    for index in (0, 1, 2, 3, 3):
        ledger.receive(index)
    ledger.decode([0, 2, 3])
    ledger.drop(1, "undecodable")
    ledger.stitch([0, 3])
    return ledger


def test_a_restored_ledger_holds_what_had_ended_and_says_what_was_lost():
    ledger = Ledger.restored(ledger_with_all_fates().state())
    counts = ledger.counts()
    assert (counts.received, counts.decoded, counts.stitched, counts.duplicates) == (4, 2, 2, 1)
    lost = ledger.recall(np.array([1, 1, 1, 2, 3], np.uint8))
    assert lost.tolist() == [2, 4]
    assert ledger.counts().dropped == {"undecodable": 1, "service_down": 2}
    assert ledger.receive(4)
    assert not ledger.receive(0)
    ledger.stitch(4)
    ledger.reopen(2)
    assert ledger.receive(2)
    ledger.stitch(2)
    ledger.close()
    counts = ledger.counts()
    assert counts.dropped == {"undecodable": 1, "never_arrived": 1}
    assert (counts.received, counts.duplicates) == (10, 5)
    assert counts.balanced


def test_a_ledger_that_contradicts_itself_is_refused():
    state = ledger_with_all_fates().state()
    state.dropped["undecodable"] = 2
    with pytest.raises(ValueError, match="neither ended nor wait"):
        Ledger.restored(state)
    with pytest.raises(ValueError, match="was not lost"):
        ledger_with_all_fates().reopen(0)


def test_a_mosaic_gives_what_changed_and_takes_it_back():
    weight = np.ones((4, 4), np.float32)
    mosaic, copy = Mosaic(1.0, weight, block_px=8), Mosaic(1.0, weight, block_px=8)
    assert mosaic.state().bounds is None
    copy.restore(mosaic.state())
    assert copy.bounds() == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="same size"):
        Mosaic(1.0, weight, block_px=16).restore(state_of_a_tile())


def state_of_a_tile():
    ones = np.ones((1, 4, 4), np.float32)
    mosaic = Mosaic(1.0, ones[0], block_px=8)
    mosaic.add(Tiles("s", np.array([0]), np.zeros((1, 2)), ones, ones, 0 * ones, np.array([0])))
    return mosaic.state()
