"""The alarm when the stream leaves what the model was trained for, with a known object behind the frames."""

import numpy as np
import pytest

from model.bundle import TrustDescription
from model.optics import far_field, tile_residual
from model.orientation import Orientation
from service.alarm import Alarm, find_orientation

SIDE, FRAMES = 32, 4
TRUST = TrustDescription(
    residual=(0.08, 0.15), error_rad=((0.1, 0.1), (0.2, 0.5)), frame_counts=(90_000.0, 110_000.0)
)
TURNED = [way for way in Orientation if way is not Orientation.UPRIGHT]


def aperiodic_probe(dice):
    """Return one mode (1, H, W) of 100 000 photons without any symmetry."""
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE // 2) / 5.0
    speckle = np.fft.ifft2(dice.normal(size=(SIDE, SIDE)) * np.fft.fft2(np.exp(-8 * (x**2 + y**2))))
    probe = np.exp(-((x - 0.4) ** 2 + 1.7 * y**2) / 2 + 1j * (0.5 * x + 0.3 * y**2)) * (1 + speckle)
    return (probe * np.sqrt(1e5 / np.square(np.abs(probe)).sum()))[None]


class Knows:
    """Stands for a network that was trained well: it finds the object where the frames lie as they should."""

    def __init__(self):
        dice = np.random.default_rng(11)
        phase = np.cumsum(np.cumsum(dice.normal(0, 0.08, (FRAMES, SIDE, SIDE)), axis=1), axis=2)
        self.probe, self.tiles = aperiodic_probe(dice), np.exp(1j * phase)
        self.asked = 0
        self.counts = dice.poisson(far_field(self.probe, self.tiles))[:, None].astype(np.uint16)

    def explain(self, counts):
        self.asked += 1
        pairs = zip(self.tiles, counts[:, 0], strict=True)
        return np.array([tile_residual(self.probe, tile, frame) for tile, frame in pairs])


@pytest.fixture(scope="module")
def _known():
    return Knows()


@pytest.fixture
def known(_known):
    _known.asked = 0
    return _known


def watch(alarm, known, counts, frames=64, first=0):
    """Let frames pass, these four over and over; return the lines that are told."""
    lines = []
    for newest in range(first + FRAMES - 1, first + frames, FRAMES):
        alarm.note(counts.sum(axis=(1, 2, 3), dtype=np.float64), known.explain(counts))
        lines += alarm.raised(newest, counts, known.explain).values()
    return lines


def test_frames_like_those_of_the_training_raise_no_alarm(known):
    alarm = Alarm(TRUST)
    assert watch(alarm, known, known.counts) == []
    report = alarm.report()
    assert report["state"] == "good"
    assert report["residual_median"] < TRUST.residual[1]
    assert report["frame_counts_median"] == pytest.approx(1e5, rel=0.02)


@pytest.mark.parametrize("way", TURNED)
def test_the_orientation_of_the_frames_is_named(known, way):
    (line,) = watch(Alarm(TRUST), known, way.of(known.counts))
    assert line.startswith("the model does not explain these frames (forward residual 0.")
    assert f"the frames look {way.words} (0." in line
    assert "noticed at frame 7" in line


def test_frames_that_lie_as_they_should_are_in_no_other_orientation(known):
    assert find_orientation(known.counts, known.explain) is None


@pytest.mark.parametrize("way", TURNED)
def test_an_orientation_is_told_with_the_residual_that_undoing_it_leaves(known, way):
    looks, residual = find_orientation(way.of(known.counts), known.explain)
    assert looks is way
    assert residual == pytest.approx(np.median(known.explain(known.counts)))


def test_frames_of_another_probe_or_sample_are_not_blamed_on_the_orientation(known):
    other = np.random.default_rng(3).permuted(known.counts.reshape(FRAMES, -1), axis=1)
    (line,) = watch(Alarm(TRUST), known, other.reshape(known.counts.shape))
    assert "another probe or sample than the model was made for" in line
    assert line.endswith("`ptycholive retrain` makes a model for what the stream is now")


@pytest.mark.parametrize(("factor", "told"), [(0.5, "exposure is 0.5 times"), (2, "exposure is 2 times")])
def test_half_and_double_exposure_are_told(known, factor, told):
    alarm = Alarm(TRUST)
    lines = watch(alarm, known, (known.counts * factor).astype(np.uint16))
    assert lines[0].startswith(told)
    assert "check dwell time" in lines[0]
    assert lines[1].endswith("their exposure may be why")
    assert len(lines) == 2
    assert alarm.state() == "exposure"


def test_a_shut_beam_is_an_exposure_of_nothing(known):
    lines = watch(Alarm(TRUST), known, np.zeros_like(known.counts))
    assert lines[0].startswith("exposure is 0 times")


def test_the_stream_waits_for_orientations_only_once_a_scan(known):
    alarm, turned = Alarm(TRUST), known.counts.swapaxes(-2, -1)
    assert len(watch(alarm, known, turned)) == 1
    assert known.asked == 64 / FRAMES + 8
    assert watch(alarm, known, known.counts, first=64) == []
    assert watch(alarm, known, turned, first=128) == []
    assert known.asked == 3 * 64 / FRAMES + 8


def test_when_the_frames_recover_so_does_the_state(known):
    alarm = Alarm(TRUST)
    watch(alarm, known, known.counts.swapaxes(-2, -1))
    assert alarm.state() == "residual"
    watch(alarm, known, known.counts, frames=24)
    assert alarm.state() == "residual", "most of the last frames are bad"
    watch(alarm, known, known.counts, frames=40)
    assert alarm.state() == "good"


def test_a_residual_that_is_no_number_is_no_alarm(known):
    alarm = Alarm(TRUST)
    for _ in range(20):
        alarm.note(np.full(4, 1e5), np.full(4, np.nan))
        assert alarm.raised(0, known.counts, known.explain) == {}
    assert alarm.report() == {"state": "unknown", "residual_median": None, "frame_counts_median": 1e5}
    assert known.asked == 0


def test_an_orientation_without_a_residual_is_not_chosen(known):
    def explain(counts):
        return np.full(len(counts), np.nan)

    assert find_orientation(known.counts, explain) is None


def test_a_few_frames_are_too_few_to_judge(known):
    alarm = Alarm(TRUST)
    assert watch(alarm, known, known.counts.swapaxes(-2, -1), frames=4) == []
    assert alarm.state() == "unknown"


def test_a_model_that_nobody_calibrated_raises_no_alarm(known):
    alarm = Alarm(None)
    assert watch(alarm, known, known.counts.swapaxes(-2, -1) * 5) == []
    assert alarm.report()["state"] == "unknown"
    assert alarm.report()["residual_median"] > TRUST.residual[1]


def test_frames_that_are_not_square_are_not_transposed(known):
    shapes = []

    def explain(counts):
        shapes.append(counts.shape)
        return np.full(len(counts), 1.0)

    assert find_orientation(known.counts[..., :20], explain) is None
    assert shapes == [(FRAMES, 1, SIDE, 20)] * 4
