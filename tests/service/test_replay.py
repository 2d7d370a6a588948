"""A detector made of a scan file: what it sends, as messages and over real sockets."""

import itertools
import json
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest

from model.scans import open_scan, write_scan
from service.errors import ConfigError, StalledError
from service.faults import Faults
from service.messages import Image, Positions, ScanEnd, ScanStart
from service.outlets import Destination
from service.replay import FORMATS, ReplayPlan, Sent, messages, run_replay, scan_name
from service.sources import Source, decoder_for

STAR = Path(__file__).parents[2] / "service" / "data" / "siemens_star_aps.cxi"
LOOPBACK = "tcp://127.0.0.1:*"


@pytest.fixture(scope="module")
def star():
    with open_scan(STAR) as scan:
        yield scan


def events(scan, plan, lane="detector"):
    decoder = decoder_for(plan.format if lane == "detector" else "native")
    sent = (message.parts for message in messages(scan, plan) if message.lane == lane)
    return [event for parts in sent for event in decoder.decode(parts, 0)]


def images(decoded):
    return [event for event in decoded if isinstance(event, Image)]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
def test_the_frames_that_are_sent_are_those_of_the_file(star, format_, encoding):
    plan = ReplayPlan("star", format=format_, encoding=encoding, frames=40)
    decoded = events(star, plan)
    assert [image.index for image in images(decoded)] == list(range(40))
    assert np.array_equal([image.counts for image in images(decoded)], star.frames(slice(0, 40)))
    assert {event.scan for event in decoded} == {"star"}


@pytest.mark.parametrize("format_", FORMATS)
def test_the_start_tells_geometry_and_planned_positions_and_the_end_comes_last(star, format_):
    start, *_, end = events(star, ReplayPlan("star", format=format_))
    assert isinstance(start, ScanStart)
    assert (start.frame_shape, start.dtype, start.frames) == ((128, 128), np.uint16, 516)
    assert start.wavelength_m == pytest.approx(star.wavelength_m)
    assert start.distance_m == pytest.approx(star.distance_m)
    assert start.object_pixel_m == star.object_pixel_m
    assert np.array_equal(start.positions_m, star.positions_m)
    assert isinstance(end, ScanEnd)


def test_positions_may_travel_with_their_frames(star):
    plan = ReplayPlan("star", positions="frames", frames=10, frames_per_message=4)
    start, *decoded, end = events(star, plan)
    assert start.positions_m is None
    told = [event for event in decoded if isinstance(event, Positions)]
    assert [positions.first for positions in told] == [0, 4, 8]
    assert np.array_equal(np.vstack([positions.positions_m for positions in told]), star.positions_m[:10])
    assert (len(images(decoded)), end.frames) == (10, 10)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_positions_stream_names_the_scan_and_is_interleaved_with_the_frames(star, format_):
    plan = ReplayPlan("star", format=format_, positions="stream", frames=100)
    lanes = [message.lane for message in messages(star, plan)]
    assert lanes[:3] == ["detector", "positions", "detector"]
    assert max(len(list(run)) for lane, run in itertools.groupby(lanes) if lane == "detector") <= 17
    assert events(star, plan)[0].positions_m is None
    *told, end = events(star, plan, lane="positions")
    assert np.array_equal(np.vstack([positions.positions_m for positions in told]), star.positions_m[:100])
    assert {positions.scan for positions in told} == {"star"}
    assert isinstance(end, ScanEnd)


@pytest.mark.parametrize("format_", FORMATS)
def test_faults_hit_the_frames_and_nothing_else(star, format_):
    faults = Faults(drop=0.1, dup=0.1, reorder=0.1, late=0.1, seed=3)
    plan = ReplayPlan("star", format=format_, encoding="raw", frames=200, faults=faults, positions="stream")
    start, *decoded, end = events(star, plan)
    expected = list(faults.applied(range(200)))
    assert [image.index for image in decoded] == expected
    assert isinstance(start, ScanStart)
    assert isinstance(end, ScanEnd)
    told = events(star, plan, lane="positions")[:-1]
    assert np.array_equal(np.vstack([positions.positions_m for positions in told]), star.positions_m[:200])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("fault", ["drop", "dup", "reorder", "late"])
def test_each_fault_can_be_had_in_each_format(star, format_, fault):
    faults = Faults(**{fault: 0.2}, seed=5)
    decoded = events(star, ReplayPlan("star", format=format_, encoding="raw", frames=50, faults=faults))
    sent = [image.index for image in images(decoded)]
    assert sent == list(faults.applied(range(50))) != list(range(50))
    assert all(np.array_equal(image.counts, star.frames()[image.index]) for image in images(decoded)[:5])


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recording_that_lacks_frames_is_sent_with_their_gaps(star, format_):
    there = np.array([0, 1, 4, 5, 9])
    lacking = replace(star, positions_m=star.positions_m[there], frame_numbers=there)
    start, *decoded, _ = events(lacking, ReplayPlan("star", format=format_))
    assert [image.index for image in decoded] == list(there)
    assert start.frames == 10
    assert np.array_equal(start.positions_m[there], star.positions_m[there])


def test_a_message_of_several_frames_has_no_gap_in_it(star):
    there = np.array([0, 1, 2, 5, 6, 9])
    lacking = replace(star, positions_m=star.positions_m[there], frame_numbers=there)
    plan = ReplayPlan("star", positions="frames", frames_per_message=2)
    told = [event for event in events(lacking, plan) if isinstance(event, Positions)]
    assert [(positions.first, len(positions.positions_m)) for positions in told] == [
        (0, 2),
        (2, 1),
        (5, 2),
        (9, 1),
    ]
    placed = np.vstack([positions.positions_m for positions in told])
    assert np.array_equal(placed, star.positions_m[there])


@pytest.mark.parametrize("format_", ["dectris-v1", "dectris-v2"])
def test_a_mask_and_a_saturation_reach_the_other_side(tmp_path, format_):
    mask = np.zeros((6, 6), bool)
    mask[1, 2] = True
    path = tmp_path / "scan.cxi"
    write_scan(path, np.ones((2, 6, 6), np.uint16), np.zeros((2, 2)), saturation=4095.0, mask=mask)
    with open_scan(path) as scan:
        start = events(scan, ReplayPlan("s", format=format_))[0]
    assert np.array_equal(start.mask, mask)
    assert start.saturation == 4095.0


@pytest.mark.parametrize("format_", FORMATS)
def test_float_frames_are_sent_where_the_format_can_carry_them(tmp_path, format_):
    path = tmp_path / "scan.cxi"
    write_scan(path, np.full((2, 6, 6), 0.5, np.float32), np.zeros((2, 2)))
    with open_scan(path) as scan:
        if format_.startswith("dectris"):
            with pytest.raises(ConfigError, match="native"):
                events(scan, ReplayPlan("s", format=format_))
        else:
            assert images(events(scan, ReplayPlan("s", format=format_)))[0].counts.max() == 0.5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "morse"}, "unknown; these can be sent: native, dectris-v1, dectris-v2, array-1.0"),
        ({"encoding": "zip"}, "raw, lz4 or bslz4"),
        ({"scan": "my scan"}, "scan name"),
        ({"rate_hz": 0.0}, "rate"),
        ({"rate_hz": float("nan")}, "rate"),
        ({"frames": 0}, "one frame"),
        ({"frames_per_message": 0}, "one frame"),
        ({"format": "dectris-v2", "frames_per_message": 2}, "one frame a message"),
        ({"format": "dectris-v2", "positions": "frames"}, "no positions"),
        ({"format": "dectris-v1", "positions": "frames"}, "no positions"),
        ({"format": "array-1.0", "frames_per_message": 2}, "one frame a message"),
    ],
)
def test_a_plan_that_no_detector_could_follow_is_told(change, told):
    with pytest.raises(ConfigError, match=told):
        ReplayPlan(**{"scan": "star", **change})


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/siemens_star_aps.cxi", "siemens_star_aps"), ("scan é 1.h5", "scan_1"), ("ü.h5", "_")],
)
def test_a_scan_is_named_after_its_file(path, name):
    assert scan_name(Path(path)) == name


class Receiver(threading.Thread):
    """Takes what comes to a bound source until the scans asked for have ended."""

    def __init__(self, format_="native", scans=1, endpoint=LOOPBACK, bind=True):
        super().__init__()
        self.source = Source(endpoint, decoder_for(format_), bind=bind)
        self.events = []
        self.arrivals = []
        self._scans = scans
        self.start()

    def run(self):
        deadline = time.monotonic() + 20
        while self._scans and time.monotonic() < deadline:
            message = self.source.receive(0.1)
            if message:
                self.arrivals.append(time.monotonic())
                self.events += message.events
                self._scans -= any(isinstance(event, ScanEnd) for event in message.events)
        self.source.close()

    def finished(self):
        self.join(timeout=25)
        assert not self.is_alive()
        return self.events


@pytest.mark.parametrize("format_", FORMATS)
def test_a_whole_scan_arrives_over_loopback(star, format_):
    receiver = Receiver(format_)
    seen = []
    sent = run_replay(
        star,
        ReplayPlan("star", format=format_),
        Destination(receiver.source.endpoint),
        progress=lambda done, total: seen.append((done, total)),
    )
    received = images(receiver.finished())
    assert sent == Sent(scans=1, messages=518, frames=516)
    assert seen == [(done, 516) for done in range(1, 517)]
    assert [image.index for image in received] == list(range(516))
    assert np.array_equal(np.array([image.counts for image in received]), star.frames())


def test_a_replay_that_binds_keeps_its_header_for_whoever_connects_late(star, tmp_path):
    endpoint = f"ipc://{tmp_path}/detector"
    plan = ReplayPlan("star", format="dectris-v2", frames=20)
    sender = threading.Thread(target=run_replay, args=(star, plan, Destination(endpoint, bind=True)))
    sender.start()
    time.sleep(0.2)
    received = Receiver("dectris-v2", endpoint=endpoint, bind=False).finished()
    sender.join(timeout=20)
    assert [type(event) for event in received] == [ScanStart, *[Image] * 20, ScanEnd]


def test_frames_and_positions_arrive_at_two_sockets(star):
    detector, positions = Receiver("dectris-v2"), Receiver("native")
    plan = ReplayPlan("star", format="dectris-v2", positions="stream", frames=50)
    run_replay(star, plan, Destination(detector.source.endpoint, positions.source.endpoint))
    assert len(images(detector.finished())) == 50
    *told, _ = positions.finished()
    assert np.array_equal(np.vstack([event.positions_m for event in told]), star.positions_m[:50])


def test_frames_come_at_the_rate_asked_for(star):
    receiver = Receiver()
    run_replay(star, ReplayPlan("star", rate_hz=200, frames=201), Destination(receiver.source.endpoint))
    receiver.finished()
    elapsed_s = receiver.arrivals[-1] - receiver.arrivals[1]
    assert elapsed_s == pytest.approx(1.0, rel=0.02, abs=0.1)  # on a busy machine a thread may wait


def test_each_round_of_a_loop_is_a_scan_of_its_own(star):
    receiver, stop = Receiver("dectris-v2", scans=3), threading.Event()
    plan = ReplayPlan("star", format="dectris-v2", frames=5, loop=True)
    sender = threading.Thread(
        target=run_replay, args=(star, plan, Destination(receiver.source.endpoint)), kwargs={"stop": stop}
    )
    sender.start()
    received = receiver.finished()
    stop.set()
    sender.join(timeout=10)
    assert not sender.is_alive()
    ends = [event.scan for event in received if isinstance(event, ScanEnd)]
    assert ends == ["star-0001", "star-0002", "star-0003"]


@pytest.mark.parametrize(
    ("format_", "key", "read"),
    [("dectris-v1", "series", json.loads), ("dectris-v2", "series_id", cbor2.loads)],
)
def test_the_rounds_of_a_loop_are_series_of_their_own(star, format_, key, read):
    plan = ReplayPlan("star", format=format_, frames=1, series_id=40)
    starts = [next(messages(star, plan, series)) for series in range(2)]
    assert [read(start.parts[0])[key] for start in starts] == [40, 41]


@pytest.mark.parametrize("somebody_listens", [True, False])
def test_a_replay_stops_at_once_when_told(star, somebody_listens, tmp_path):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began_s = time.monotonic()
    with Source(LOOPBACK, decoder_for("native"), bind=True) as source:
        to = source.endpoint if somebody_listens else f"ipc://{tmp_path}/nobody"
        sent = run_replay(star, ReplayPlan("star", rate_hz=0.1, frames=5), Destination(to), stop=stop)
    assert time.monotonic() - began_s < 3
    assert sent == (Sent(scans=0, messages=2, frames=1) if somebody_listens else Sent())


def test_a_replay_to_nobody_says_what_to_check(star, tmp_path):
    with pytest.raises(StalledError, match="is the service running"):
        run_replay(star, ReplayPlan("star"), Destination(f"ipc://{tmp_path}/nobody", stall_s=0.2))


@pytest.mark.parametrize(("positions", "positions_to"), [("start", "tcp://127.0.0.1:5001"), ("stream", None)])
def test_a_positions_stream_and_its_endpoint_go_together(star, positions, positions_to):
    plan = ReplayPlan("star", positions=positions)
    with pytest.raises(ConfigError, match="go together"):
        run_replay(star, plan, Destination("tcp://127.0.0.1:5000", positions_to))


def test_a_replay_binds_to_other_machines_only_with_leave(star):
    with pytest.raises(ConfigError, match="other machines"):
        run_replay(star, ReplayPlan("star"), Destination("tcp://0.0.0.0:5000", bind=True))


def test_a_large_scan_is_sent_from_little_memory(tmp_path):
    path = tmp_path / "scan.cxi"
    frames = np.zeros((400, 256, 256), np.uint16)
    write_scan(path, frames, np.zeros((400, 2)))
    with open_scan(path) as scan:
        tracemalloc_peak = _peak_bytes(scan, ReplayPlan("s", encoding="raw"))
    assert tracemalloc_peak < frames.nbytes * 0.8


def _peak_bytes(scan, plan):
    tracemalloc.start()
    sent = sum(message.frames for message in messages(scan, plan))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent == len(scan)
    return peak
