"""A detector that lies the wrong way round and is too large, and stages that count backwards."""

from __future__ import annotations

import re

import numpy as np
import pytest

from model.orientation import Orientation
from model.scans import open_scan, write_scan

FRAMES = 32
WAY, AXES = Orientation.QUARTER_TURN_RIGHT, Orientation.MIRRORED_UP_DOWN
MARGINS = ((6, 14), (9, 3))
BEAM = "70,73"
DOOR = {"orientation": WAY.setting, "positions_axes": AXES.axes, "beam_centre": BEAM}


@pytest.fixture(scope="module")
def scans(processes, tmp_path_factory):
    """Return a folder: the star's first frames, and as that detector and those stages would tell them."""
    folder = tmp_path_factory.mktemp("scans")
    with open_scan(processes.SCAN) as scan:
        counts, positions_m = scan.frames(slice(FRAMES)), scan.positions_m[:FRAMES]
        told = {name: getattr(scan, name) for name in ("wavelength_m", "distance_m", "detector_pixel_m")}
    write_scan(folder / "upright.cxi", counts, positions_m, **told)
    # of an even number of frequencies a mirrored detector has the outermost on the other side
    on_detector = np.pad(WAY.inverse.of(counts), ((0, 0), (0, 1), (0, 1)), mode="wrap").astype(np.uint32)
    margins = [(before, after - 1) for before, after in MARGINS]
    on_detector = np.pad(on_detector, [(0, 0), *margins], constant_values=2**32 - 1)
    write_scan(folder / "turned.cxi", on_detector, AXES.inverse.of_positions(positions_m), **told)
    return folder


def replay(service, scan, file, processes):
    """Stream a scan file to a service."""
    log = service.results.parent / f"{scan}.log"
    to = ["--format", "dectris-v2", "--to", service.endpoints()[0], "--scan", scan]
    assert processes.spawn(["replay", file, *to], log).wait(processes.PATIENCE_S) == 0, log.read_text()


def mosaic(service, scan, file, processes):
    """Stream a scan file to a service; return the phase of its mosaic, and the report."""
    replay(service, scan, file, processes)
    report = service.finished(scan)
    assert report["ledger"]["stitched"] == FRAMES
    return service.mosaic(scan, "phase"), report


def test_a_turned_detector_gives_the_very_mosaic_of_an_upright_one(serve, scans, processes):
    alike = {"batch_frames": 1}  # rounding goes with the size of a batch
    upright, _ = mosaic(serve(**alike), "upright", scans / "upright.cxi", processes)
    turned, report = mosaic(serve(**DOOR, **alike), "turned", scans / "turned.cxi", processes)
    np.testing.assert_array_equal(turned, upright)
    assert report["geometry"]["frame_shape"] == [128, 128]
    assert report["geometry"]["framing"] == {
        "detector_shape": [148, 140], "crop_corner": [6, 9], "crop": [128, 128], "bin": 1,
        "orientation": "rotate270", "positions_axes": "-y,x",
    }  # fmt: skip
    assert report["warnings"] == []


def test_check_orient_names_the_settings_of_a_scan_file(scans, processes):
    check = processes.run("check", "--orient", scans / "turned.cxi", "--frames", 24, "--beam-centre", BEAM)
    assert check.returncode == 0, check.stderr
    assert check.stdout.splitlines()[-1] == "orientation = rotate270, positions-axes = -y,x"


def test_check_orient_takes_the_first_frames_of_the_stream(scans, processes, tmp_path):
    to = processes.free_endpoint()
    detector = processes.spawn(
        ["replay", scans / "turned.cxi", "--format", "dectris-v2", "--to", to, "--bind", "--rate", 100],
        tmp_path / "detector.log",
    )
    flags = processes.flags({"images": to, "beam_centre": BEAM, "frames": 24, "timeout": 30})
    check = processes.run("check", "--orient", *flags)
    detector.kill()
    detector.wait()
    assert check.returncode == 0, check.stderr
    assert re.match(r"24 frames of scan turned, model siemens-star", check.stdout)
    assert check.stdout.splitlines()[-1] == "orientation = rotate270, positions-axes = -y,x"


def test_a_crop_that_cannot_be_refuses_the_scan_and_the_service_stays_up(serve, scans, processes):
    service = serve(beam_centre="20,20")
    for scan in ("first", "second"):
        replay(service, scan, scans / "turned.cxi", processes)
        processes.until(lambda scan=scan: (service.report(scan) or {}).get("finished"), "the scan is over")
        report = service.report(scan)
        assert processes.balanced(report["ledger"])
        assert report["ledger"]["dropped"] == {"frame_shape": FRAMES}
        (line,) = report["warnings"]
        assert line.startswith("a crop of 128 × 128 about the beam at row 20, column 20 reaches beyond")


def test_a_scan_file_without_orient_is_a_mistake(scans, processes):
    mistaken = processes.run("check", scans / "turned.cxi")
    assert mistaken.returncode == 2
    assert "with --orient only" in mistaken.stderr
