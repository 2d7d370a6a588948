"""Confidence and alarm in the journey of the frames."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from model.bundle import TrustDescription, load_bundle
from model.trust import tile_confidence
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import EngineError
from service.messages import Image

FRAMES = 64
TRUST = TrustDescription(
    residual=(0.05, 0.1), error_rad=((0.05, 0.2), (0.1, 0.4)), frame_counts=(25_000.0, 40_000.0)
)


@pytest.fixture
def engine_of(bundle_maker, tmp_path):
    """Return what makes an engine whose network tells spread and residual, or not, and is calibrated."""

    def make(doubts=True, name="calibrated", trust=TRUST):
        bundle = load_bundle(bundle_maker(tmp_path, name, doubts=doubts, trust=trust))
        return OnnxRuntimeEngine(bundle, threads=1)

    return make


def with_residual(events, residual, frames=range(FRAMES), factor=1):
    """Let the network find this residual in the frames, and multiply their exposure."""

    def changed(image):
        counts = image.counts * np.uint16(factor)
        counts[0, 0] = round(residual * 1000)
        return msgspec.structs.replace(image, counts=counts)

    return [
        changed(event) if isinstance(event, Image) and event.index in frames else event for event in events
    ]


def trust_of(run):
    return run.report(0)["trust"]


def test_every_tile_carries_its_confidence_and_its_residual(journey, stream, engine_of):
    told = journey(engine_of()).take(with_residual(stream(), 0.12))
    run = told.result()
    for painted in told.painted:
        tiles = painted.tiles
        np.testing.assert_allclose(tiles.residual, 0.12, rtol=1e-5)
        by_hand = tile_confidence(tiles.residual, TRUST)[:, None, None]
        np.testing.assert_allclose(tiles.confidence, by_hand.repeat(16, 1).repeat(16, 2), rtol=1e-5)
    report = run.report(0)
    assert 0 < report["confidence"] < report["agreement"]
    assert report["confidence"] == pytest.approx(run.mosaic.confidence_mean())
    assert report["forward_residual"] == pytest.approx(0.12)


def test_frames_that_are_explained_as_in_calibration_leave_confidence_to_their_agreement(
    journey, stream, engine_of
):
    run = journey(engine_of()).take(with_residual(stream(), 0.07)).result()
    assert run.mosaic.confidence_mean() == pytest.approx(run.mosaic.agreement_mean(), abs=1e-5)
    assert run.report(0)["trust"]["state"] == "good"
    assert run.warnings == {}


def test_a_greater_residual_means_less_confidence(journey, stream, engine_of):
    means = [
        journey(engine_of(name=str(residual)))
        .take(with_residual(stream(), residual))
        .result()
        .mosaic.confidence_mean()
        for residual in (0.09, 0.15, 0.3)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[2] + 0.1


def test_without_trust_the_agreement_alone_decides(journey, stream):
    run = journey().take(stream()).result()
    assert run.mosaic.confidence_mean() == pytest.approx(run.mosaic.agreement_mean())
    assert trust_of(run)["state"] == "unknown"
    assert run.warnings == {}


def test_frames_that_the_model_stops_to_explain_are_told_and_may_recover(journey, stream, engine_of):
    events = with_residual(with_residual(stream(), 0.05), 0.25, frames=range(16, 48))
    told = journey(engine_of(), batch_frames=4).take(events[:49])
    (line,) = told.run.warnings.values()
    assert "does not explain these frames (forward residual 0." in line
    assert "at most 0.100 in training; noticed at frame 3" in line
    assert trust_of(told.run)["state"] == "residual"
    run = told.take(events[49:]).result()
    assert list(run.warnings.values()) == [line]
    assert run.ledger.counts().stitched == FRAMES


def test_double_exposure_is_told(journey, stream, engine_of):
    run = journey(engine_of()).take(with_residual(stream(), 0.05, factor=2)).result()
    (line,) = run.warnings.values()
    assert line.startswith("exposure is 2")
    assert trust_of(run)["state"] == "exposure"
    assert 60_000 < trust_of(run)["frame_counts_median"] < 65_000


def test_masked_pixels_are_no_photons(journey, stream, engine_of):
    start, *rest = with_residual(stream(), 0.05)
    mask = np.zeros((32, 32), bool)
    mask[1] = True
    run = journey(engine_of()).take([replace(start, mask=mask), *rest]).result()
    assert trust_of(run)["state"] == "good"


def test_a_network_that_tells_no_residual_is_watched_by_sampled_frames(journey, stream, engine_of):
    told = journey(engine_of(doubts=False), batch_frames=4).take(stream())
    run = told.result()
    (line,) = run.warnings.values()
    assert "another probe or sample than the model was made for" in line
    assert line.endswith("`ptycholive retrain` makes a model for what the stream is now")
    assert trust_of(run)["state"] == "residual"
    assert run.mosaic.confidence_mean() == pytest.approx(run.mosaic.agreement_mean())
    assert all(painted.tiles.confidence is None for painted in told.painted)


class FailsAtTrials:
    """A real engine that cannot run what the alarm wants to try."""

    def __init__(self, engine, batch_frames):
        self.bundle, self.backend, self.device = engine.bundle, engine.backend, engine.device
        self._engine, self._batch_frames = engine, batch_frames
        self.trials = 0

    def infer(self, counts):
        if len(counts) < self._batch_frames:
            self.trials += 1
            raise EngineError("out of memory")
        return self._engine.infer(counts)


def test_a_trial_that_fails_costs_no_frame_and_no_alarm(journey, stream, engine_of):
    engine = FailsAtTrials(engine_of(), 16)
    run = journey(engine, batch_frames=16).take(with_residual(stream(), 0.25)).result()
    assert engine.trials == 8
    assert run.ledger.counts().stitched == FRAMES
    assert "does not explain" in " ".join(run.warnings.values())


def test_after_a_swap_the_new_models_calibration_counts(journey, stream, engine_of):
    *first, end = with_residual(stream(), 0.25)
    told = journey(engine_of(), batch_frames=4).take(first[:33])
    assert trust_of(told.run)["state"] == "residual"
    tolerant = TrustDescription(
        residual=(0.2, 0.3), error_rad=TRUST.error_rad, frame_counts=TRUST.frame_counts
    )
    told.swap(engine_of(name="tolerant", trust=tolerant))
    told.take([*first[33:], end])
    assert trust_of(told.result())["state"] == "good"
