"""Recording as it is done at a beamline: what is left of a killed recorder, and what replaying gives."""

import signal
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from model.scans import open_scan

RATE_HZ = 150
DATA, TRANSLATION = "/entry_1/data_1/data", "/entry_1/data_1/translation"
FRAMES = "/entry_1/recording_1/frames"

LITTLE_ROOM = """
import resource, sys
from service.cli import main
from service.recording import disk
disk._STEP_BYTES = 1 << 20
resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))
main()
"""


@pytest.fixture
def recorder(processes, tmp_path):
    """Start `ptycholive record`; it ends with the test, if the test does not end it."""
    started = []

    def start(*flags, program=None):
        to, log = processes.free_endpoint(), tmp_path / "record.log"
        arguments = ["record", "--images", to, "--images-bind", "--out", tmp_path / "scans", *flags]
        if program is None:
            process = processes.spawn(arguments, log)
        else:
            with log.open("ab") as told:
                process = subprocess.Popen(
                    [sys.executable, "-c", program, *map(str, arguments)],
                    stdout=told, stderr=subprocess.STDOUT, env=processes.environment(),
                )  # fmt: skip
        started.append(process)
        processes.until(lambda: "images: " in log.read_text(), "the recorder takes frames")
        return process, to, log

    yield start
    for process in started:
        process.kill()
        process.wait()


def replay(processes, to, *flags):
    told = processes.run("replay", processes.SCAN, "--to", to, "--scan", "star", *flags)
    assert told.returncode == 0, told.stderr


def test_a_recorder_that_is_killed_in_mid_scan_leaves_a_file_that_hdf5_reads(recorder, processes, tmp_path):
    process, to, _ = recorder()
    detector = processes.Detector(
        tmp_path / "replay.log", {"to": to, "format": "dectris-v2", "scan": "star", "rate": RATE_HZ}
    )
    part = tmp_path / "scans" / "star.part.cxi"
    processes.until(part.exists, "the scan is being recorded")
    processes.until(lambda: detector.process.poll() is not None or recorded(part) >= 200, "two flushes")
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    detector.stop()
    with h5py.File(part, swmr=True) as file, open_scan(processes.SCAN) as star:
        frames = file[FRAMES][()]
        assert 200 <= len(frames) < 516
        assert np.array_equal(file[DATA][: len(frames)], star.frames(slice(0, len(frames))))
        assert np.array_equal(file[TRANSLATION][: len(frames), :2], star.positions_m[: len(frames), ::-1])
        assert file["/entry_1/recording_1/ledger/recorded"][()] == len(frames)
    with open_scan(part) as scan:
        assert len(scan) == len(frames)


def recorded(part):
    """Return how many frames one who looks on can see."""
    with h5py.File(part, swmr=True) as file:
        return len(file[FRAMES])


@pytest.mark.parametrize("format_", ["dectris-v1", "native"])
def test_recording_alone_keeps_the_whole_scan(recorder, processes, tmp_path, format_):
    process, to, log = recorder("--images-format", format_, "--scans", "1", "--end-grace-s", "0.3")
    replay(processes, to, "--format", format_)
    assert process.wait(processes.PATIENCE_S) == 0
    assert "516 of 516 frames recorded" in log.read_text()
    with open_scan(tmp_path / "scans" / "star.cxi") as scan, open_scan(processes.SCAN) as star:
        assert np.array_equal(scan.frames(), star.frames())
        assert np.array_equal(scan.positions_m, star.positions_m)
        assert scan.object_pixel_m == star.object_pixel_m


def test_a_disk_that_fills_up_costs_the_rest_of_the_recording_and_not_the_recorder(
    recorder, processes, tmp_path
):
    process, to, log = recorder("--scans", "1", "--end-grace-s", "0.3", program=LITTLE_ROOM)
    replay(processes, to, "--format", "dectris-v2", "--encoding", "raw")
    assert process.wait(processes.PATIENCE_S) == 0, log.read_text()
    assert "the scan goes on" in log.read_text()
    with h5py.File(tmp_path / "scans" / "star.cxi") as file, open_scan(processes.SCAN) as star:
        frames = file[FRAMES][()]
        ledger = file["/entry_1/recording_1/ledger"]
        assert 0 < len(frames) < 516
        assert ledger["dropped/disk_full"][()] == 516 - len(frames)
        assert np.array_equal(file[DATA], star.frames(slice(0, len(frames))))


def test_a_recorded_scan_replayed_gives_the_same_mosaic_bit_by_bit(serve, processes, tmp_path):
    alike = {
        "batch_frames": 1,
        "threads": 1,
    }  # other batches, or sums in another order, differ in the last bit
    service = serve(images_format="auto", refine=False, record=tmp_path / "scans", **alike)
    first = service.take("star", format="dectris-v2", frames=96)
    recording = tmp_path / "scans" / "star.cxi"
    processes.until(recording.exists, "the recording is whole")
    (to,) = service.endpoints()
    told = processes.run("replay", recording, "--to", to, "--format", "dectris-v2", "--scan", "again")
    assert told.returncode == 0, told.stderr
    again = service.finished("again")
    assert again["ledger"] == first["ledger"]
    for channel in ("amplitude", "phase", "agreement", "coverage"):
        assert np.array_equal(service.mosaic("star", channel), service.mosaic("again", channel))
