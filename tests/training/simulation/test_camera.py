from dataclasses import replace

import numpy as np
import pytest
import torch

from model.optics import far_field
from training.simulation.camera import CameraRecipe, expose, mark_flaws, photograph

QUIET = CameraRecipe(flux_jitter=0, mode_jitter=0, background_counts=0)
FLAWED = replace(QUIET, flawed_share=1.0)
INVALID = 65535


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def tile(probe, n=1):
    """The same smooth object n times."""
    y, x = np.mgrid[:32, :32] / 32
    transmission = ((0.8 + 0.1 * x) * np.exp(1j * (np.sin(7 * x) + y**2))).astype(np.complex64)
    return torch.as_tensor(np.repeat(transmission[None], n, axis=0))


def taken(probe, tiles, camera, generator):
    return photograph(probe, expose(tiles, camera, generator), camera, generator)


def test_mean_and_variance_of_the_counts_are_the_patterns_intensity(probe):
    counts = taken(torch.as_tensor(probe), tile(probe, 1500), QUIET, noise()).numpy()
    expected = far_field(probe, tile(probe).numpy())[0]
    bright = expected > 5
    assert bright.sum() > 50
    error = (counts.mean(axis=0) - expected)[bright] / np.sqrt(expected[bright] / 1500)
    assert np.abs(error).max() < 5
    assert np.abs(error.mean()) < 0.5
    np.testing.assert_allclose((counts.var(axis=0) / expected)[bright].mean(), 1, atol=0.03)


def test_flux_varies_from_frame_to_frame_as_the_recipe_says(probe):
    strong = 100 * torch.as_tensor(probe)  # counting noise out of the way
    camera = replace(QUIET, flux_jitter=0.1, saturation=np.inf)
    totals = taken(strong, tile(probe, 400), camera, noise()).sum(dim=(1, 2))
    assert (totals.std() / totals.mean()).item() == pytest.approx(0.1, abs=0.012)
    steady = taken(strong, tile(probe, 100), replace(camera, flux_jitter=0), noise()).sum(dim=(1, 2))
    assert steady.std() / steady.mean() < 1e-3


def test_each_modes_share_varies_as_the_recipe_says(probe):
    camera = replace(QUIET, mode_jitter=0.2, saturation=np.inf)
    strong = 100 * torch.as_tensor(probe)
    patterns = taken(strong, tile(probe, 50), camera, noise())
    shares = patterns / patterns.sum(dim=(1, 2), keepdim=True)
    assert (shares.std(dim=0).max() / shares.mean(dim=0).max()) > 0.01


def test_the_background_lies_everywhere(probe):
    dark = torch.zeros(1, 32, 32, dtype=torch.complex64)
    camera = replace(QUIET, background_counts=4.0)
    counts = taken(dark, tile(probe, 200), camera, noise())
    assert counts.mean().item() == pytest.approx(2, abs=0.2)  # half of the greatest, on average


def test_counts_are_cut_at_saturation(probe):
    counts = taken(torch.as_tensor(probe), tile(probe), replace(QUIET, saturation=50), noise())
    assert counts.max() == 50


def test_a_probe_k_times_stronger_gives_k_squared_the_counts(probe):
    once, strong = (
        taken(k * 20 * torch.as_tensor(probe), tile(probe), replace(QUIET, saturation=np.inf), noise()).sum()
        for k in (1, 3)
    )
    assert (strong / once).item() == pytest.approx(9, rel=1e-2)


def test_four_times_the_exposure_gives_four_times_the_counts(probe):
    once, long = (
        taken(
            100 * torch.as_tensor(probe),
            tile(probe),
            replace(QUIET, exposure=(e, e), saturation=np.inf),
            noise(),
        )
        for e in (1.0, 4.0)
    )
    assert (long.sum() / once.sum()).item() == pytest.approx(4, rel=1e-2)


def test_exposures_spread_evenly_over_each_factor_of_their_range(probe):
    camera = replace(QUIET, exposure=(0.25, 4.0), saturation=np.inf)
    totals = taken(10 * torch.as_tensor(probe), tile(probe, 600), camera, noise()).sum(dim=(1, 2))
    doublings = torch.log2(totals / totals.min())
    assert doublings.max().item() == pytest.approx(4, abs=0.2)
    assert torch.histc(doublings, 4, 0, 4).min() > 110  # of 150 each


def test_readout_noise_widens_the_dark_and_counts_stay_whole_and_positive(probe):
    dark = torch.zeros(1, 32, 32, dtype=torch.complex64)
    counts = taken(dark, tile(probe, 200), replace(QUIET, readout_counts=3.0), noise())
    assert counts.min() == 0
    assert torch.equal(counts, counts.round())
    above = counts[counts > 0]
    assert above.square().mean().sqrt().item() == pytest.approx(3, rel=0.25)
    bright = taken(100 * torch.as_tensor(probe), tile(probe, 2), replace(QUIET, saturation=np.inf), noise())
    assert torch.equal(bright, bright.round())


def test_a_gap_marks_pixels_and_nothing_else(probe):
    whole, marked = (
        taken(torch.as_tensor(probe), tile(probe, 40), camera, noise()) for camera in (QUIET, FLAWED)
    )
    invalid = marked == INVALID
    assert whole.max() < INVALID
    assert invalid.any(dim=(1, 2)).all()
    assert torch.equal(marked[~invalid], whole[~invalid])


def test_a_gap_crosses_the_frame_and_is_as_wide_as_the_recipe_says():
    camera = replace(FLAWED, gap_px=(2, 4), dead_share=0.0)
    invalid = mark_flaws(torch.zeros(300, 24, 32), camera, noise()) == INVALID
    lines = {True: invalid.all(dim=2).sum(dim=1), False: invalid.all(dim=1).sum(dim=1)}
    widths = torch.maximum(lines[True], lines[False])
    assert set(widths.tolist()) <= {1, 2, 3, 4}  # a gap at the border is cut
    assert {2, 3, 4} <= set(widths.tolist())
    assert 100 < (lines[True] > 0).sum() < 200  # half of them across the rows


def test_dead_pixels_are_few_and_scattered():
    camera = replace(FLAWED, gap_px=(1, 1), dead_share=0.1)
    invalid = mark_flaws(torch.zeros(100, 64, 64), camera, noise()) == INVALID
    share = invalid.float().mean().item() - 1 / 64
    assert share == pytest.approx(0.05, abs=0.01)


def test_only_a_share_of_the_frames_is_flawed():
    frames = torch.ones(1000, 8, 8)
    marked = mark_flaws(frames, replace(FLAWED, flawed_share=0.1, gap_px=(1, 2)), noise())
    assert (marked == INVALID).any(dim=2).any(dim=1).sum().item() == pytest.approx(100, abs=35)
    assert torch.equal(mark_flaws(frames, QUIET, noise()), frames)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"exposure": (0.0, 1.0)}, "exposure"),
        ({"exposure": (2.0, 1.0)}, "exposure"),
        ({"gap_px": (3, 2)}, "gaps"),
        ({"flawed_share": 1.5}, "between 0 and 1"),
        ({"readout_counts": -1.0}, "readout"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        CameraRecipe(**wrong)
