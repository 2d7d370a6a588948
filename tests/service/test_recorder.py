"""Which frames a recording holds, when it ends, and what it says of those that it lacks."""

import h5py
import numpy as np
import pytest

from model.scans import ScanFileError, open_scan
from service.messages import Image, Positions, Rejected, ScanEnd, ScanStart
from service.recording.backlog import Backlog
from service.recording.chunks import packed_image
from service.recording.recorder import Recorder, RecorderSettings

H, W = 16, 24
GRACE_S, IDLE_S = 2.0, 30.0


def start(scan="s", frames=6, **told):
    return ScanStart(scan, (H, W), np.dtype("<u2"), frames=frames, **told)


def counts(index):
    return np.full((H, W), index + 1, np.uint16)


def frame(index, scan="s"):
    return packed_image(Image(scan, index, counts(index), 0))


def positions(count, scan="s", first=0):
    return Positions(scan, first, np.column_stack([np.arange(count) + 0.5, np.arange(count)]) * 1e-6)


class Bench:
    """A recorder in simulated time; every event takes a millisecond."""

    def __init__(self, folder):
        self.folder, self.now_s = folder, 100.0
        self.lines, self.warnings = [], []
        self.recorder = Recorder(
            RecorderSettings(folder, GRACE_S, IDLE_S), self.lines.append, self.warnings.append
        )

    def take(self, *items):
        for item in items:
            self.recorder.handle(item, self.now_s)
            self.wait(1e-3)
        return self

    def wait(self, seconds):
        self.now_s += seconds
        self.recorder.tick(self.now_s)
        return self

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def ledger(self, name="s.cxi"):
        with h5py.File(self.folder / name) as file:
            group = file["/entry_1/recording_1/ledger"]
            told = {key: int(group[key][()]) for key in ("expected", "received", "recorded", "duplicates")}
            return told | {key: int(number[()]) for key, number in group["dropped"].items() if number[()]}

    def ended(self, name="s.cxi"):
        with h5py.File(self.folder / name) as file:
            return file["/entry_1/recording_1/ended"][()].decode()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_frames_land_by_their_number_whatever_their_order(bench):
    bench.take(start(), *map(frame, (5, 0, 3, 1, 4, 2)), positions(6), ScanEnd("s")).wait(GRACE_S)
    with open_scan(bench.folder / "s.cxi") as scan:
        assert np.array_equal(scan.frames(), [counts(index) for index in range(6)])
        assert np.array_equal(scan.positions_m, positions(6).positions_m)
        assert scan.frame_numbers is None


def test_a_gap_is_listed_and_left_out_when_the_scan_is_read(bench):
    bench.take(start(), *map(frame, (0, 1, 4)), positions(6), ScanEnd("s")).wait(GRACE_S)
    with open_scan(bench.folder / "s.cxi") as scan:
        assert list(scan.frame_numbers) == [0, 1, 4]
        assert np.array_equal(scan.frames(slice(1, None)), [counts(1), counts(4)])
        assert np.array_equal(scan.positions_m, positions(6).positions_m[[0, 1, 4]])
    with h5py.File(bench.folder / "s.cxi") as file:
        assert not file["/entry_1/data_1/data"][2:4].any()
    assert bench.warnings == []
    assert "3 frames never arrived: 2–3, 5" in bench.lines[-1]


def test_the_ledger_beside_the_frames_balances(bench):
    damaged = Rejected("s", 3, "undecodable", "damaged")
    bench.take(start(), *map(frame, (0, 1, 1, 2)), damaged, positions(6), ScanEnd("s")).wait(GRACE_S)
    assert bench.ledger() == {
        "expected": 6, "received": 5, "recorded": 3, "duplicates": 1, "undecodable": 1, "never_arrived": 2,
    }  # fmt: skip


def test_what_is_known_of_the_instrument_is_kept(bench):
    mask = np.zeros((H, W), bool)
    mask[3, 4] = True
    told = start(
        wavelength_m=1e-10, distance_m=2.0, detector_pixel_m=75e-6, object_pixel_m=1.23e-8, saturation=4e3,
        mask=mask, beam_px=(7.5, 11.0),
    )  # fmt: skip
    bench.take(told, frame(0), positions(1), ScanEnd("s")).wait(GRACE_S)
    with open_scan(bench.folder / "s.cxi") as scan:
        assert (scan.wavelength_m, scan.distance_m, scan.detector_pixel_m) == (1e-10, 2.0, 75e-6)
        assert (scan.object_pixel_m, scan.saturation, scan.beam_px) == (1.23e-8, 4e3, (7.5, 11.0))
        assert np.array_equal(scan.mask, mask)


@pytest.mark.parametrize("early", [True, False], ids=["before the start", "after the end"])
@pytest.mark.parametrize("name", ["s", ""], ids=["named", "of a source without names"])
def test_positions_of_a_stream_of_their_own_find_their_frames(bench, early, name):
    told = positions(3, name)
    stream = [start(frames=3), *map(frame, range(3)), ScanEnd("s")]
    bench.take(*([told, *stream] if early else [*stream, told])).wait(GRACE_S)
    with open_scan(bench.folder / "s.cxi") as scan:
        assert np.array_equal(scan.positions_m, told.positions_m)


def test_frames_without_positions_are_said_to_be_so(bench):
    bench.take(start(frames=3), *map(frame, range(3)), positions(2), ScanEnd("s")).wait(GRACE_S)
    assert "1 have no position" in bench.warnings[-1]
    with open_scan(bench.folder / "s.cxi") as scan:
        assert len(scan) == 2


def test_a_recording_without_any_position_says_so_when_it_is_read(bench):
    bench.take(start(frames=1), frame(0), ScanEnd("s")).wait(GRACE_S)
    with pytest.raises(ScanFileError, match="none with a position"):
        open_scan(bench.folder / "s.cxi")


def test_a_late_frame_is_still_taken_after_the_end(bench):
    bench.take(start(frames=2), frame(0), positions(2), ScanEnd("s", 2)).wait(GRACE_S / 2)
    bench.take(frame(1)).wait(GRACE_S)
    assert bench.ledger()["recorded"] == 2
    assert bench.ended() == "end"


def test_a_scan_whose_format_tells_no_end_is_over_when_it_is_quiet(bench):
    bench.take(start(frames=None, has_end=False), frame(0), frame(1), positions(2)).wait(IDLE_S - 1)
    assert bench.files() == ["s.part.cxi"]
    bench.wait(1)
    assert bench.files() == ["s.cxi"]
    assert bench.ended() == "idle"


def test_a_scan_that_waits_for_its_motors_is_not_over(bench):
    bench.take(start(), frame(0), positions(6)).wait(10 * IDLE_S)
    bench.take(*map(frame, range(1, 6)), ScanEnd("s")).wait(GRACE_S)
    assert bench.ledger()["recorded"] == 6


def test_the_next_scan_ends_one_whose_end_was_lost(bench):
    bench.take(start(), frame(0), positions(6), start("t"), frame(0, "t"), positions(6, "t"))
    assert bench.files() == ["s.cxi", "t.part.cxi"]
    assert bench.ended() == "next scan"


def test_stopping_ends_the_file(bench):
    bench.take(start(), frame(0), positions(6))
    bench.recorder.close()
    assert bench.files() == ["s.cxi"]
    assert bench.ended() == "stopped"


def test_a_second_scan_of_one_name_keeps_the_first(bench):
    for _ in range(2):
        bench.take(start(), frame(0), positions(1), ScanEnd("s")).wait(GRACE_S)
    first, second = bench.files()
    assert first == "s.cxi"
    assert second.startswith("s_")


def test_the_start_that_is_told_twice_begins_one_file(bench):
    bench.take(start(), start(), frame(0), positions(1), ScanEnd("s"), ScanEnd("s")).wait(GRACE_S)
    assert bench.files() == ["s.cxi"]


def test_frames_of_a_scan_whose_start_was_missed_do_not_end_the_one_that_runs(bench):
    strays = start("old", assumed="as its image has")
    bench.take(start(), frame(0), strays, frame(7, "old"), frame(1), positions(2), ScanEnd("s")).wait(GRACE_S)
    assert bench.ledger()["recorded"] == 2


def test_a_scan_without_frames_leaves_no_file(bench):
    bench.take(start(), positions(6), ScanEnd("s")).wait(GRACE_S)
    assert bench.files() == []
    assert "no frame" in bench.warnings[-1]


def test_a_file_that_is_being_written_can_be_read(bench):
    bench.take(start(), *map(frame, range(4)), positions(6)).wait(1.0)
    with open_scan(bench.folder / "s.part.cxi") as scan:
        assert np.array_equal(scan.frames(), [counts(index) for index in range(4)])


def test_a_folder_that_goes_away_costs_the_recording_and_is_said_once(bench, tmp_path):
    bench = Bench(tmp_path / "gone")
    bench.take(start(), *map(frame, range(4)), positions(6), ScanEnd("s")).wait(GRACE_S)
    assert len([line for line in bench.warnings if "cannot be written" in line]) == 1
    assert "the scan goes on" in bench.warnings[0]


def test_a_disk_that_is_too_slow_costs_frames_and_they_are_counted(bench):
    backlog = Backlog(budget_bytes=3 * 1100)
    stream = [start(), positions(6), *map(frame, range(6)), ScanEnd("s")]
    for item in stream:  # nobody takes any meanwhile
        backlog.put(item)
    bench.take(*(backlog.get(0) for _ in stream)).wait(GRACE_S)
    told = bench.ledger()
    assert backlog.lost == told["disk_too_slow"] == 6 - told["recorded"] > 0
    assert f"{backlog.lost} frames dropped: disk_too_slow" in bench.warnings[-1]
    with open_scan(bench.folder / "s.cxi") as scan:
        assert np.array_equal(scan.frames(), [counts(index) for index in range(told["recorded"])])


def test_a_disk_that_stands_still_for_hours_fills_no_memory():
    backlog = Backlog(budget_bytes=3 * 1100)
    for index in range(1000):
        backlog.put(frame(index % 6))
        backlog.put(positions(6))
    assert len(backlog) < 50
    assert backlog.lost > 990


def test_a_disk_that_fails_leaves_the_part_that_it_took(bench, monkeypatch):
    bench.take(start(), *map(frame, range(4)), positions(6)).wait(1.0)
    (scan,) = bench.recorder._open.values()
    monkeypatch.setattr(scan.writer, "_file", Failing(scan.writer._file))
    bench.take(frame(4)).wait(1.0).take(ScanEnd("s")).wait(GRACE_S)
    assert bench.files() == ["s.part.cxi"]
    assert "Input/output error" in bench.warnings[0]
    assert "stays s.part.cxi" in bench.warnings[-1]
    with open_scan(bench.folder / "s.part.cxi") as scan:
        assert np.array_equal(scan.frames(slice(0, 4)), [counts(index) for index in range(4)])


class Failing:
    """A file on a disk that broke."""

    def __init__(self, file):
        self._file = file

    def __getitem__(self, name):
        return self._file[name]

    def flush(self):
        raise OSError(5, "Input/output error")
