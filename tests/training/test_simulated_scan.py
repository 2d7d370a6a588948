import numpy as np
import pytest
from click.testing import CliRunner

from model.judge import forward_residual
from model.scans import open_scan
from training.simulated_scan import command
from training.simulation.camera import CameraRecipe
from training.simulation.raster import ScanRecipe, raster_corners, simulate_scan

STILL = CameraRecipe(flux_jitter=0, mode_jitter=0, background_counts=0)


def corners(**recipe):
    return raster_corners(ScanRecipe(**recipe), np.random.default_rng(1))


def test_without_jitter_the_raster_runs_row_by_row():
    assert corners(frames=5, step_px=6, jitter_px=0).tolist() == [[0, 0], [0, 6], [0, 12], [6, 0], [6, 6]]


def test_jitter_moves_each_position_by_no_more_than_it_says():
    moved = corners(frames=100, step_px=8, jitter_px=2) - corners(frames=100, step_px=8, jitter_px=0)
    assert np.ptp(moved, axis=0).max() <= 4
    assert len(np.unique(moved, axis=0)) > 5
    assert corners(frames=100, jitter_px=3).min() == 0


def test_the_true_object_and_probe_explain_the_frames_down_to_counting_noise(probe):
    counts, truth = simulate_scan(probe, 1e-8, ScanRecipe(("polygons",), frames=30, camera=STILL, seed=3))
    found = forward_residual(truth.probe, truth.object, counts, truth.positions_px)
    wrong = forward_residual(truth.probe, np.ones_like(truth.object), counts, truth.positions_px)
    noise = np.sqrt(0.25 * np.count_nonzero(counts > 5) / counts.sum())  # a count's root varies by 1/4
    assert found < 2 * noise
    assert wrong > 3 * found


def test_coverage_is_the_light_that_fell(probe):
    _, truth = simulate_scan(probe, 1e-8, ScanRecipe(frames=30))
    light = 30 * np.square(np.abs(probe)).sum()
    assert truth.coverage.sum() == pytest.approx(light, rel=1e-4)
    assert truth.coverage.shape == truth.object.shape


def test_a_scan_is_taken_with_one_exposure_by_a_detector_without_flaws(probe):
    counts, _ = simulate_scan(probe, 1e-8, ScanRecipe(frames=60, step_px=1))
    totals = counts.sum(axis=(1, 2))
    assert totals.max() < 1.5 * totals.min()
    assert counts.max() < 65535


def test_the_seed_decides_the_scan(probe):
    once, again, other = (simulate_scan(probe, 1e-8, ScanRecipe(frames=4, seed=s))[0] for s in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_the_command_writes_a_scan_that_can_be_played_again(scan, tmp_path):
    out = tmp_path / "spokes.cxi"
    words = f"--out {out} --probe {scan} --family spokes --frames 7 --step-px 5 --seed 3"
    done = CliRunner().invoke(command, words.split())
    assert done.exit_code == 0, done.output
    with open_scan(out) as written, open_scan(scan) as measured:
        truth = written.reference()
        assert written.frames().shape == (7, 32, 32)
        assert written.frames().dtype == np.uint16
        assert written.wavelength_m == measured.wavelength_m
        assert written.saturation == 65534
        np.testing.assert_allclose(written.positions_m / truth.object_pixel_m, truth.positions_px + 16)
        np.testing.assert_array_equal(truth.probe, measured.reference().probe)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--probe nowhere.cxi --out {}/x.cxi", "no such scan file"),
        ("--probe {scan} --out {}/x.cxi --family unicorns", "unicorns"),
        ("--probe {scan} --out {}/x.cxi --frames 0", "frames"),
        ("--probe {scan} --out {}/no/such/folder/x.cxi", "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(scan, tmp_path, words, reason):
    done = CliRunner().invoke(command, words.format(tmp_path, scan=scan).split())
    assert done.exit_code == 2
    assert reason in done.output.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
