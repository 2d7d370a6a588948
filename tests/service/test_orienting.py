"""`check --orient`: the settings that turn frames and positions right are named, on the measured star."""

from pathlib import Path

import numpy as np
import pytest

from model.bundle import find_bundle, load_bundle
from model.optics import far_field
from model.orientation import Orientation
from model.scans import open_scan, write_scan
from service.config import Settings
from service.door import Door, DoorSettings
from service.engine import Inferred
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import ConfigError
from service.messages import Image, Positions, ScanStart
from service.orienting.check import check_orientation, report
from service.orienting.first_frames import FirstFrames
from service.orienting.trial import OrientTrial, try_orientations

STAR = Path(__file__).parents[2] / "service/data/siemens_star_aps.cxi"
FRAMES = 24
SIDE = 32
UPRIGHT, HALF_TURN = Orientation.UPRIGHT, Orientation.HALF_TURN


class Remembers:
    """A real engine that is asked for each batch only once: turned frames are tried over and over."""

    def __init__(self, engine):
        self.bundle, self.backend, self.device = engine.bundle, engine.backend, engine.device
        self._engine = engine
        self._answers = {}

    def infer(self, counts):
        key = counts.tobytes()
        if key not in self._answers:
            self._answers[key] = self._engine.infer(counts)
        return self._answers[key]


@pytest.fixture(scope="module")
def star():
    """Return the engine of the shipped bundle, and the star's first frames and positions."""
    bundle = load_bundle(find_bundle("siemens-star"))
    with open_scan(STAR) as scan:
        counts = scan.frames(slice(FRAMES))[:, None].astype(np.uint16)
        return Remembers(OnnxRuntimeEngine(bundle, threads=1)), counts, scan.positions_m[:FRAMES]


def tried(star, frames_lie=UPRIGHT, positions_lie=UPRIGHT):
    engine, counts, positions_m = star
    sent = np.ascontiguousarray(frames_lie.of(counts)), positions_lie.of_positions(positions_m)
    return try_orientations(engine, *sent, engine.bundle.description.object_pixel_m)


@pytest.mark.parametrize("way", Orientation)
def test_the_setting_that_turns_the_stars_frames_and_positions_right_is_named(star, way):
    other = list(Orientation)[-1 - list(Orientation).index(way)]
    trial = tried(star, way.inverse, other.inverse)
    assert trial.answers == [(way, other)]
    *_, last = report(trial, None)
    assert last == f"orientation = {way.setting}, positions-axes = {other.axes}"


def test_the_table_lists_all_orientations_and_all_axes_best_first(star):
    lines = list(report(tried(star), None))
    assert len(lines) == 2 * (1 + len(Orientation)) + 1
    assert [line.split()[0] for line in (lines[1], lines[10])] == ["as-is", "y,x"]
    residuals = [float(line.split()[1]) for line in lines[1:9]]
    assert residuals == sorted(residuals)


def test_frames_along_one_line_do_not_tell_the_other_axis(star):
    engine, counts, positions_m = star
    along = np.flatnonzero(np.abs(positions_m[:, 0] - positions_m[1, 0]) < 2e-8)
    line_m = np.stack([np.zeros(len(along)), positions_m[along, 1]], axis=1)
    trial = try_orientations(engine, counts[along], line_m, engine.bundle.description.object_pixel_m)
    assert (UPRIGHT, Orientation.MIRRORED_UP_DOWN) in trial.answers
    lines = list(report(trial, None))
    assert "the tiles overlap in too few directions: take more frames, with --frames" in lines


class Knows:
    """A network that finds the object wherever a probe that is real and even lets it: twins too."""

    backend = device = "test"

    def __init__(self, bundle, tiles):
        self.bundle = bundle
        tile = slice(SIDE // 2 - 8, SIDE // 2 + 8)
        self._known = {}
        for way in (UPRIGHT, HALF_TURN):
            # |F(P·O)|² of a real and even probe is turned by 180° when O becomes its conjugate
            for counts, found in zip(seen(bundle.probe, tiles), tiles, strict=True):
                twin = found if way is UPRIGHT else found.conj()
                self._known[way.of(counts).tobytes()] = twin[tile, tile]

    def infer(self, counts):
        nothing = np.ones((16, 16), complex)
        found = np.array([self._known.get(frame.tobytes(), nothing) for frame in counts])
        return Inferred(np.abs(found), np.cos(np.angle(found)), np.sin(np.angle(found)))


def seen(probe, tiles):
    return np.rint(far_field(probe, tiles)).astype(np.uint16)


def test_twins_under_an_even_probe_are_said_to_be_indistinguishable(loaded_bundle):
    dice = np.random.default_rng(2)
    phase = np.cumsum(np.cumsum(dice.normal(0, 0.05, (80, 80)), axis=0), axis=1)
    corners = dice.integers(0, 40, (30, 2))
    tiles = np.stack([np.exp(1j * phase[y : y + SIDE, x : x + SIDE]) for y, x in corners])
    engine = Knows(loaded_bundle, tiles)
    trial = try_orientations(engine, seen(loaded_bundle.probe, tiles)[:, None], corners * 1e-8, 1e-8)
    assert set(trial.answers) == {(UPRIGHT, UPRIGHT), (HALF_TURN, UPRIGHT)}
    lines = list(report(trial, None))
    assert "cannot be told from the last line:" in lines
    assert "compare the picture with the sample" in lines[-2]


def test_frames_that_nothing_explains_are_given_no_orientation():
    lines = list(report(OrientTrial({UPRIGHT: np.inf}, {(UPRIGHT, UPRIGHT): np.inf}), None))
    assert lines[-1] == "nothing explains these frames: is this the model of this instrument?"


# Where the frames come from


@pytest.fixture
def turned_star(tmp_path):
    """Return a scan file of the star, turned, on a larger detector with its beam off the middle."""
    way, axes = Orientation.QUARTER_TURN_LEFT, Orientation.MIRRORED_UP_DOWN
    with open_scan(STAR) as scan:
        counts = way.inverse.of(scan.frames(slice(FRAMES)))
        on_detector = np.pad(counts, ((0, 0), (6, 14), (9, 3))).astype(np.uint32)
        positions_m = axes.inverse.of_positions(scan.positions_m[:FRAMES])
        told = {"wavelength_m": scan.wavelength_m, "distance_m": scan.distance_m}
        pixel_m = scan.detector_pixel_m
    write_scan(tmp_path / "turned.cxi", on_detector, positions_m, detector_pixel_m=pixel_m, **told)
    return tmp_path / "turned.cxi"


def test_a_scan_file_of_a_turned_detector_is_told_the_settings(turned_star):
    settings = Settings(threads=1, beam_centre="70,73", orientation="transpose")
    first, *_, last = check_orientation(settings, FRAMES, 1.0, turned_star)
    assert first == "24 frames of scan turned, model siemens-star"
    assert last == "orientation = rotate90, positions-axes = -y,x"


def test_a_scan_file_that_cannot_be_framed_is_refused(turned_star):
    with pytest.raises(ConfigError, match="too small for the model's 128 × 128 with a bin of 2"):
        list(check_orientation(Settings(threads=1, bin=2), FRAMES, 1.0, turned_star))


def test_a_quiet_stream_is_told(tmp_path, tiny_bundle):
    settings = Settings(bundle=str(tiny_bundle), threads=1, images=f"ipc://{tmp_path}/nobody")
    with pytest.raises(ConfigError, match="0 frames met their positions, 8 are needed: are detector and"):
        list(check_orientation(settings, FRAMES, 0.05, None))


@pytest.mark.parametrize("positions", ["start", "before", "after"])
def test_the_first_frames_meet_their_positions_whenever_these_come(stream, positions):
    events = stream(positions="start" if positions == "start" else "stream")
    rows = [event for event in events if isinstance(event, Positions)]
    others = [event for event in events if not isinstance(event, Positions)]
    first = FirstFrames(Door(DoorSettings(), lambda: (32, 32)), 20)
    for event in rows + others if positions == "before" else others + rows:
        first.take([event])
    assert first.complete
    assert [frame.index for frame in first.frames] == list(range(20))


def test_the_frames_of_one_scan_only_are_taken(tiny_file):
    first = FirstFrames(Door(DoorSettings(), lambda: (32, 32)), 20)
    for name in ("aborted", "next"):
        start = ScanStart(name, (32, 32), np.dtype("<u2"), positions_m=tiny_file.positions_m)
        first.take([start, *(Image(name, n, np.full((32, 32), n, np.uint16), 0) for n in (5, 3, 5))])
        first.take([Image("stray", 9, np.zeros((32, 32), np.uint16), 0)])
    assert [frame.index for frame in first.frames] == [3, 5]
    assert first.start.scan == "next"
