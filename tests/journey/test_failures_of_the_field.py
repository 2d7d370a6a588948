"""What goes wrong at beamlines, made to happen over real sockets: every frame is accounted for.

Each time API, page, metrics and result file must tell the same ledger.
"""

from __future__ import annotations

import io
import pickle
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest
import zmq
from websockets.sync.client import connect

from model.scans import open_scan
from service.messages import Positions, ScanEnd
from service.replay import start_of_file
from service.security.curve import CurveClient, secure
from service.security.keys import load_pair, load_public, make_keys
from service.wire import dectris_v1, native
from service.wire.dectris_v1 import SentSeries
from service.wire.pixels import DEFAULT_LIMITS

FRAMES = 64
FRAME_S = 0.003  # of a detector that does not run ahead of its clients
HALF = FRAMES // 2
A_PACKET = 8  # positions
PATIENCE_S = 30.0
INBOX_MIB = 1
GRACE = {"end_grace_s": 0.5, "join_deadline_s": 2.0, "keep_scans": 64, "refine": False, "threads": 1}
LATER = random.Random(11)


class Beamline:
    """A detector that speaks Stream V1 and a position stream, sent by hand: what goes when.

    Attributes:
        counts: (64, 32, 32) of the small scan.
        positions_m: (64, 2) y, x.
        start: what is told of each scan.
    """

    def __init__(self, path, context):
        with open_scan(path) as scan:
            self.counts, self.positions_m = scan.frames(), scan.positions_m
            self.start = replace(start_of_file(scan, "unnamed"), positions_m=None)
        self._context = context
        self._series = 0

    def connect(self, service):
        self.images, self.positions = (self._context.socket(zmq.PUSH) for _ in range(2))
        for socket, endpoint in zip((self.images, self.positions), service.endpoints(), strict=True):
            socket.set(zmq.LINGER, 0)
            socket.connect(endpoint)

    def arm(self, scan) -> SentSeries:
        self._series += 1
        return SentSeries(replace(self.start, scan=scan), self._series)

    def send(self, *messages):
        for parts in messages:
            self.images.send_multipart(parts)

    def frames(self, series, numbers=range(FRAMES), counts=None):
        pixels = self.counts if counts is None else counts
        return [dectris_v1.encode_image(series, n, pixels[n], "bslz4") for n in numbers]

    def place(self, scan, packets=range(0, FRAMES, A_PACKET), positions_m=None):
        told_m = self.positions_m if positions_m is None else positions_m
        for first in packets:
            told = Positions(scan, first, told_m[first : first + A_PACKET])
            self.positions.send_multipart(native.encode_positions(told))

    def arm_wider(self, scan, shape, dtype):
        """Return a series of larger frames, and these: the small scan's in the middle, nothing around."""
        margins = [((wide - narrow) // 2,) * 2 for wide, narrow in zip(shape, (32, 32), strict=True)]
        series = self.arm(scan)
        start = replace(series.start, frame_shape=shape, dtype=np.dtype(dtype))
        return replace(series, start=start), np.pad(self.counts.astype(dtype), ((0, 0), *margins))

    def take(self, scan, positions_m=None):
        """Send a whole scan, as it should be."""
        series = self.arm(scan)
        self.place(scan, positions_m=positions_m)
        self.send(dectris_v1.encode_header(series), *self.frames(series), dectris_v1.encode_end(series))


@pytest.fixture(scope="module")
def context():
    with zmq.Context() as context:
        yield context
        context.destroy(linger=0)


@pytest.fixture(scope="module")
def listening(serve, tiny_bundle):
    """A service to which detector and positions connect."""
    return serve(images_format="dectris-v1", positions="tcp://127.0.0.1:*", positions_bind=True,
                 bundle=tiny_bundle, batch_frames=48, batch_deadline_s=0.2, inbox_mib=INBOX_MIB,
                 **GRACE)  # fmt: skip


@pytest.fixture(scope="module")
def beamline(tiny_scan, context, listening):
    beamline = Beamline(tiny_scan, context)
    beamline.connect(listening)
    yield beamline
    beamline.images.close()
    beamline.positions.close()


def on_the_page(service, scan) -> dict[str, Any]:
    """Return the ledger of a scan as the live page is told it."""
    until_s = time.monotonic() + PATIENCE_S
    with connect(service.url.replace("http", "ws") + "/api/live", proxy=None) as page:
        page.send(msgspec.json.encode({"scan": scan, "windows": []}).decode())
        while True:
            told = page.recv(timeout=until_s - time.monotonic())
            state = msgspec.json.decode(told) if isinstance(told, str) else {}
            if state.get("name") == scan:
                return state["scan"]["ledger"]


def in_the_result(service, scan) -> dict[str, Any]:
    content = service.http.get(f"/api/scans/{scan}/result.h5").raise_for_status().content
    with h5py.File(io.BytesIO(content)) as file:
        ledger = file["entry/ledger"]
        dropped = {reason: int(frames[()]) for reason, frames in ledger["dropped"].items()}
        return {
            name: int(ledger[name][()]) for name in ("expected", "received", "stitched", "duplicates")
        } | {"dropped": dropped}


def in_the_metrics(service) -> tuple[Counter[str], Counter[str]]:
    """Return how many frames of all scans Prometheus is told, by stage and by reason."""
    samples = service.metrics()
    stages = {stage: int(frames) for (stage,), frames in samples["ptycholive_frames_total"].items()}
    dropped = samples.get("ptycholive_frames_dropped_total", {})
    return Counter(stages), Counter({reason: int(frames) for (reason,), frames in dropped.items()})


@pytest.fixture
def account(processes):
    """Return what gives a finished scan's report, once all four places tell the same of it."""

    def of(service, scan) -> dict[str, Any]:
        report = service.finished(scan)
        ledger = report["ledger"]
        assert processes.balanced(ledger)
        assert on_the_page(service, scan) == ledger
        written = in_the_result(service, scan)
        assert written == {name: ledger[name] for name in written}
        stages, dropped = in_the_metrics(service)
        ledgers = [one["ledger"] for one in service.get("/api/scans")]
        assert dropped == sum((Counter(one["dropped"]) for one in ledgers), Counter())
        for stage in ("expected", "received", "decoded", "joined", "inferred", "stitched", "duplicates"):
            assert stages[stage] == sum(one[stage] for one in ledgers)
        return report

    return of


def told(report, words) -> bool:
    """Whether the operator is told so, in the report of a scan or of the whole service."""
    return any(words in line for line in report["warnings"])


def test_a_series_whose_header_was_lost_runs_on_what_its_first_image_tells_and_says_so(
    listening, beamline, account
):
    series = beamline.arm("never-told")
    unnamed = f"series-{series.number}"
    beamline.place(unnamed)
    beamline.send(*beamline.frames(series), dectris_v1.encode_end(series))
    report = account(listening, unnamed)
    assert report["ledger"]["stitched"] == report["ledger"]["expected"] == FRAMES
    assert told(report, "the start of the scan was not received")


def test_images_and_positions_in_any_two_orders_give_the_mosaic_of_an_undisturbed_scan(
    listening, beamline, account
):
    beamline.take("in-order")
    series = beamline.arm("in-disorder")
    packets, numbers = list(range(0, FRAMES, A_PACKET)), list(range(FRAMES))
    LATER.shuffle(packets)
    LATER.shuffle(numbers)
    beamline.send(dectris_v1.encode_header(series), *beamline.frames(series, numbers[:HALF]))
    beamline.place("in-disorder", packets)
    beamline.send(*beamline.frames(series, numbers[HALF:]), dectris_v1.encode_end(series))
    for scan in ("in-order", "in-disorder"):
        assert account(listening, scan)["ledger"]["stitched"] == FRAMES
    for channel in ("amplitude", "coverage"):
        straight = listening.mosaic("in-order", channel)
        np.testing.assert_allclose(listening.mosaic("in-disorder", channel), straight, rtol=1e-4, atol=1e-5)


def test_a_lost_packet_of_positions_costs_its_own_frames_and_a_late_one_none(listening, beamline, account):
    series = beamline.arm("one-packet-lost")
    lost, late = 2 * A_PACKET, 5 * A_PACKET
    beamline.place(series.start.scan, [n for n in range(0, FRAMES, A_PACKET) if n not in (lost, late)])
    beamline.send(dectris_v1.encode_header(series), *beamline.frames(series), dectris_v1.encode_end(series))
    time.sleep(0.3)
    beamline.place(series.start.scan, [late])
    report = account(listening, "one-packet-lost")
    assert report["ledger"]["stitched"] == FRAMES - A_PACKET
    assert report["ledger"]["dropped"] == {"no_position": A_PACKET}
    assert told(report, f"no position came for frame {lost}")


def test_a_batch_that_does_not_fill_is_flushed_by_its_deadline_before_any_end(
    listening, beamline, account, processes
):
    series = beamline.arm("not-a-batch")
    beamline.place("not-a-batch")
    beamline.send(dectris_v1.encode_header(series), *beamline.frames(series, range(FRAMES - 1)))
    processes.until(lambda: listening.stitched("not-a-batch") == FRAMES - 1, "the last batch, of 15 frames")
    beamline.send(*beamline.frames(series, [FRAMES - 1]), dectris_v1.encode_end(series))
    assert account(listening, "not-a-batch")["ledger"]["stitched"] == FRAMES


def test_the_mosaic_grows_to_wherever_the_beam_goes(listening, beamline, account):
    away_m = np.array([-6e-6, 9e-6])  # hundreds of pixels
    track_m = beamline.positions_m + np.where(np.arange(FRAMES)[:, None] < HALF, 0.0, away_m)
    beamline.take("far-away", positions_m=track_m)
    report = account(listening, "far-away")
    assert (report["ledger"]["stitched"], report["ledger"]["dropped"]) == (FRAMES, {})
    coverage = listening.mosaic("far-away", "coverage")
    geometry = report["geometry"]
    places_px = np.rint((track_m - geometry["origin_m"]) / geometry["object_pixel_m"]).astype(int)
    assert (coverage[places_px[:, 0], places_px[:, 1]] > 0).all()
    assert min(coverage.shape) > 600


def test_strays_of_an_aborted_series_touch_no_other_and_the_next_may_have_other_pixels(
    listening, beamline, account
):
    aborted = beamline.arm("aborted")
    other, wider = beamline.arm_wider("other-pixels", (40, 48), "<u4")
    strays_before = listening.metrics()["ptycholive_stray_frames_total"][()]
    for scan in ("aborted", "other-pixels"):
        beamline.place(scan)
    beamline.send(dectris_v1.encode_header(aborted), *beamline.frames(aborted, range(20)))
    beamline.send(dectris_v1.encode_header(other))
    for n in range(FRAMES):
        beamline.send(*beamline.frames(other, [n], wider))
        if n < 10:
            beamline.send(*beamline.frames(aborted, [20 + n]))
    beamline.send(dectris_v1.encode_end(aborted), dectris_v1.encode_end(other))
    short, whole = account(listening, "aborted"), account(listening, "other-pixels")
    assert (short["ledger"]["stitched"], short["ledger"]["dropped"]) == (20, {"never_arrived": 44})
    assert told(short, "no end was told: other-pixels began before")
    assert (whole["ledger"]["stitched"], whole["ledger"]["dropped"]) == (FRAMES, {})
    assert whole["geometry"]["dtype"] == "<u4"
    assert whole["geometry"]["framing"]["detector_shape"] == [40, 48]
    assert listening.metrics()["ptycholive_stray_frames_total"][()] == strays_before + 10
    beamline.take("as-before")
    assert account(listening, "as-before")["ledger"]["stitched"] == FRAMES


def test_frames_that_come_too_fast_wait_within_a_budget_of_bytes_and_none_is_lost(
    listening, beamline, account, processes
):
    series, wide = beamline.arm_wider("too-fast", (512, 512), "<u2")
    beamline.place("too-fast")
    messages = [dectris_v1.encode_image(series, n, wide[n], "raw") for n in range(FRAMES)]
    beamline.send(dectris_v1.encode_header(series), *messages, dectris_v1.encode_end(series))
    depths = []

    def stitched() -> bool:
        depths.append(listening.get("/api/status")["queues"]["inbox"])
        return listening.stitched("too-fast") == FRAMES

    processes.until(stitched, "all of them are stitched")
    assert max(depths) <= INBOX_MIB * 2**20 // wide[0].nbytes
    report = account(listening, "too-fast")
    assert (report["ledger"]["stitched"], report["ledger"]["dropped"]) == (FRAMES, {})


def test_an_oversized_message_costs_its_own_frame_and_that_its_sender_was_cut_off_is_said(
    listening, beamline, account, processes
):
    series = beamline.arm("oversized")
    frames = beamline.frames(series)
    frames[HALF][2] = bytes(DEFAULT_LIMITS.max_message_bytes + 1)
    beamline.place("oversized")
    beamline.send(dectris_v1.encode_header(series), *frames[:HALF])
    processes.until(lambda: listening.stitched("oversized") == HALF, "what was sent before is stitched")
    beamline.images.send_multipart(frames[HALF], copy=False)
    processes.until(lambda: told(listening.get("/api/status"), "a message above"), "the operator is told")
    beamline.send(*frames[HALF + 1 :], dectris_v1.encode_end(series))
    report = account(listening, "oversized")
    assert report["ledger"]["stitched"] == FRAMES - 1
    assert report["ledger"]["dropped"] == {"never_arrived": 1}


def test_a_sender_without_the_right_key_brings_nothing_into_a_scan_and_is_told(
    serve, tiny_bundle, tiny_scan, context, account, processes, tmp_path
):
    keys = {name: make_keys(tmp_path / name, name) for name in ("service", "friend", "stranger")}
    service = serve(images_format="native", bundle=tiny_bundle, keys=keys["service"][1],
                    clients=tmp_path / "friend", **GRACE)  # fmt: skip
    beamline = Beamline(tiny_scan, context)
    start = replace(beamline.start, scan="guarded", positions_m=beamline.positions_m)

    def sender(name):
        socket = context.socket(zmq.PUSH)
        socket.set(zmq.LINGER, 0)
        secure(socket, CurveClient(load_pair(keys[name][1]), load_public(keys["service"][0])))
        socket.connect(service.endpoints()[0])
        return socket

    with sender("friend") as friend, sender("stranger") as stranger:
        stranger.send_multipart(native.encode_start(start))
        friend.send_multipart(native.encode_start(start))
        for number, counts in enumerate(beamline.counts):
            for socket in (stranger, friend):
                socket.send_multipart(native.encode_frames("guarded", number, counts[None], "lz4"))
        friend.send_multipart(native.encode_end(ScanEnd("guarded", FRAMES)))
        processes.until(
            lambda: told(service.get("/api/status"), "not in the folder of clients"),
            "who was refused is said",
        )
        ledger = account(service, "guarded")["ledger"]
    assert (ledger["received"], ledger["stitched"], ledger["duplicates"]) == (FRAMES, FRAMES, 0)


class Touch:
    """What unpickles to a file that says so."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def test_nothing_that_comes_is_unpickled(listening, beamline, account, processes, tmp_path):
    bomb = pickle.dumps(Touch(tmp_path / "exploded"))
    pickle.loads(bomb).close()
    (tmp_path / "exploded").unlink()  # so much for the bomb; now the service
    in_pixels = dectris_v1.encode_image(series := beamline.arm("bombed"), 3, beamline.counts[3], "raw")
    in_pixels[2] = bomb
    endpoints = listening.endpoints()
    refused = "ptycholive_messages_refused_total"
    before = [listening.metrics().get(refused, {}).get((endpoint,), 0) for endpoint in endpoints]
    beamline.place("bombed")
    beamline.positions.send(bomb)
    beamline.send([bomb], dectris_v1.encode_header(series), *beamline.frames(series, [0, 1, 2]), in_pixels)
    beamline.send(*beamline.frames(series, range(4, FRAMES)), dectris_v1.encode_end(series))
    report = account(listening, "bombed")
    assert report["ledger"]["stitched"] == FRAMES - 1
    assert report["ledger"]["dropped"] == {"undecodable": 1}
    after = [listening.metrics()[refused][endpoint,] for endpoint in endpoints]
    assert after == [count + 1 for count in before]
    assert not (tmp_path / "exploded").exists()


@pytest.mark.long
def test_frames_that_another_client_pulls_are_missing_one_by_one_and_it_is_said(
    serve, tiny_bundle, tiny_scan, context, account, processes, tmp_path
):
    endpoint, frames = f"ipc://{tmp_path}/detector", 4 * FRAMES
    beamline = Beamline(tiny_scan, context)
    with context.socket(zmq.PUSH) as detector, context.socket(zmq.PULL) as thief:
        detector.set(zmq.LINGER, 0)
        detector.bind(endpoint)
        service = serve(
            images=endpoint, images_bind=False, images_format="native", bundle=tiny_bundle, **GRACE
        )
        track_m = np.tile(beamline.positions_m, (4, 1))
        start = replace(beamline.start, scan="dealt", frames=frames, positions_m=track_m)
        detector.send_multipart(native.encode_start(start))
        processes.until(lambda: service.report("dealt"), "the scan begins, with one client")
        thief.connect(endpoint)
        detector.send_multipart(native.encode_frames("dealt", 0, beamline.counts[:1], "raw"))
        stolen = 0
        for number in range(1, frames):
            counts = beamline.counts[number % FRAMES][None]
            detector.send_multipart(native.encode_frames("dealt", number, counts, "raw"))
            time.sleep(FRAME_S)  # a sender that runs ahead deals to whoever has room, not in turns
        while thief.poll(500):
            thief.recv_multipart()
            stolen += 1
        thief.close()
        processes.until(lambda: service.stitched("dealt") == frames - stolen, "what was left is stitched")
        for _ in range(2):  # the first end may be dealt to the one that has just gone
            detector.send_multipart(native.encode_end(ScanEnd("dealt", frames)))
        report = account(service, "dealt")
    assert stolen > frames // 3
    assert report["ledger"]["dropped"] == {"never_arrived": stolen}
    assert told(report, "every 2nd frame is missing: is another client connected to the detector?")


@pytest.mark.long
def test_what_a_publisher_drops_at_its_high_water_mark_is_missing_at_the_tail(
    serve, tiny_bundle, tiny_scan, context, account, processes
):
    """The service is stopped for a while; the publisher's queue fills, and it drops without a word."""
    frames, side = 6 * FRAMES, 192
    beamline = Beamline(tiny_scan, context)
    margin = (side - beamline.counts.shape[1]) // 2
    large = np.pad(beamline.counts, ((0, 0), (margin, margin), (margin, margin)))
    track_m = np.tile(beamline.positions_m, (6, 1))
    start = replace(beamline.start, frame_shape=(side, side), frames=frames, positions_m=track_m)
    with context.socket(zmq.PUB) as detector:
        detector.set(zmq.SNDHWM, 64)
        detector.set(zmq.LINGER, 0)
        endpoint = f"tcp://127.0.0.1:{detector.bind_to_random_port('tcp://127.0.0.1')}"
        service = serve(
            images=endpoint, images_bind=False, images_socket="sub", images_format="native",
            bundle=tiny_bundle, batch_frames=48, batch_deadline_s=30, **GRACE,
        )  # fmt: skip

        def begun(scan):
            detector.send_multipart(native.encode_start(replace(start, scan=scan)))
            return service.report(scan)

        processes.until(lambda: begun("overflowed"), "the subscription has arrived")
        service.process.send_signal(signal.SIGSTOP)
        for number in range(frames):
            counts = large[number % FRAMES][None]
            detector.send_multipart(native.encode_frames("overflowed", number, counts, "raw"))
            time.sleep(1e-3)
        detector.send_multipart(native.encode_end(ScanEnd("overflowed", frames)))
        service.process.send_signal(signal.SIGCONT)
        came = processes.until(lambda: service.report("overflowed")["ledger"]["received"], "the first frames")
        processes.until(lambda: begun("the-next"), "the next scan begins")
        report = account(service, "overflowed")
    ledger = report["ledger"]
    assert 0 < came <= ledger["stitched"] < frames
    assert ledger["dropped"] == {"never_arrived": frames - ledger["stitched"]}
    assert report["ledger_words"].endswith(f"–{frames - 1}")  # the last frames are among them
    assert told(report, "no end was told: the-next began before")
