"""Another model at a batch border, in simulated time."""

import numpy as np
import pytest

from model.bundle import load_bundle
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import EngineError

FRAMES = 64


@pytest.fixture(scope="module")
def brighter(bundle_maker, tmp_path_factory):
    """An engine of the same shapes whose amplitudes are twice as large."""
    return OnnxRuntimeEngine(
        load_bundle(bundle_maker(tmp_path_factory.mktemp("b"), "brighter", gain=2.0)), threads=1
    )


@pytest.fixture(scope="module")
def smaller(bundle_maker, tmp_path_factory):
    """An engine of other tiles."""
    return OnnxRuntimeEngine(
        load_bundle(bundle_maker(tmp_path_factory.mktemp("s"), "smaller", tile=8)), threads=1
    )


def test_a_swap_in_the_middle_of_a_batch_loses_no_frame(journey, stream, tiny_file, brighter):
    events = stream()
    told = journey(batch_frames=16, batch_deadline_s=60.0).take(events[:25])
    told.swap(brighter)
    run = told.take(events[25:]).result()
    assert run.ledger.counts().stitched == FRAMES
    assert [len(painted.tiles.indices) for painted in told.painted] == [16, 8, 16, 16, 8]
    frames = tiny_file.frames().astype(np.float64)
    relative = frames[:, 16, 16] / frames.mean(axis=(1, 2))
    amplitude = np.concatenate([painted.tiles.amplitude[:, 8, 8] for painted in told.painted])
    np.testing.assert_allclose(amplitude / relative, [1] * 24 + [2] * 40, rtol=1e-5)
    assert run.model == "brighter"
    assert "from tiny" in run.warnings["model"]


def test_a_model_of_other_tiles_is_refused_in_mid_scan_and_the_old_one_goes_on(journey, stream, smaller):
    events = stream()
    told = journey().take(events[:25])
    with pytest.raises(EngineError, match="smaller does not fit the running scan tiny"):
        told.swap(smaller)
    run = told.take(events[25:]).result()
    assert (run.ledger.counts().stitched, run.model) == (FRAMES, "tiny")


def test_between_scans_a_model_of_other_tiles_is_welcome(journey, stream, smaller):
    told = journey().take(stream())
    told.swap(smaller)
    told.take(stream(scan="next"))
    assert [run.model for run in told.finished] == ["tiny", "smaller"]
    assert told.painted[-1].tiles.amplitude.shape[1:] == (8, 8)


def test_a_model_of_another_pixel_is_told_when_it_comes_in_mid_scan(journey, stream, bundle_maker, tmp_path):
    coarse = load_bundle(bundle_maker(tmp_path, "coarse", object_pixel_m=3e-8))
    told = journey().take(stream()[:25])
    told.swap(OnnxRuntimeEngine(coarse, threads=1))
    assert "the model was trained at 30.00 nm" in told.run.warnings["model_pixel"]


def test_a_model_that_no_mosaic_can_be_made_of_is_refused(journey, bundle_maker, tmp_path):
    absurd = OnnxRuntimeEngine(load_bundle(bundle_maker(tmp_path, object_pixel_m=0.0)), threads=1)
    with pytest.raises(EngineError, match="pixel must be positive"):
        journey(absurd)
    with pytest.raises(EngineError, match="pixel must be positive"):
        journey().swap(absurd)
