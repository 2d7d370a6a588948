from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from model.optics import far_field
from training.simulation.factory import (
    CameraRecipe,
    FrameFactory,
    SimulationRecipe,
    gauge_phase,
    photograph,
    probe_weight_map,
)

QUIET = CameraRecipe(flux_jitter=0, mode_jitter=0, background_counts=0)
SMALL = SimulationRecipe(object_size=64, tiles_per_object=4)


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def tile(probe, n=1):
    """The same smooth object n times."""
    y, x = np.mgrid[:32, :32] / 32
    transmission = ((0.8 + 0.1 * x) * np.exp(1j * (np.sin(7 * x) + y**2))).astype(np.complex64)
    return torch.as_tensor(np.repeat(transmission[None], n, axis=0))


def test_mean_and_variance_of_the_counts_are_the_patterns_intensity(probe):
    counts = photograph(torch.as_tensor(probe), tile(probe, 1500), QUIET, noise()).numpy()
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
    totals = photograph(strong, tile(probe, 400), camera, noise()).sum(dim=(1, 2))
    assert (totals.std() / totals.mean()).item() == pytest.approx(0.1, abs=0.012)
    steady = photograph(strong, tile(probe, 100), replace(camera, flux_jitter=0), noise()).sum(dim=(1, 2))
    assert steady.std() / steady.mean() < 1e-3


def test_each_modes_share_varies_as_the_recipe_says(probe):
    camera = replace(QUIET, mode_jitter=0.2, saturation=np.inf)
    strong = 100 * torch.as_tensor(probe)
    patterns = photograph(strong, tile(probe, 50), camera, noise())
    shares = patterns / patterns.sum(dim=(1, 2), keepdim=True)
    assert (shares.std(dim=0).max() / shares.mean(dim=0).max()) > 0.01


def test_the_background_lies_everywhere(probe):
    dark = torch.zeros(1, 32, 32, dtype=torch.complex64)
    camera = replace(QUIET, background_counts=4.0)
    counts = photograph(dark, tile(probe, 200), camera, noise())
    assert counts.mean().item() == pytest.approx(2, abs=0.2)  # half of the greatest, on average


def test_counts_are_cut_at_saturation(probe):
    counts = photograph(torch.as_tensor(probe), tile(probe), replace(QUIET, saturation=50), noise())
    assert counts.max() == 50


def test_a_probe_k_times_stronger_gives_k_squared_the_counts(probe):
    once, strong = (
        photograph(
            k * 20 * torch.as_tensor(probe), tile(probe), replace(QUIET, saturation=np.inf), noise()
        ).sum()
        for k in (1, 3)
    )
    assert (strong / once).item() == pytest.approx(9, rel=1e-2)


def test_a_global_phase_leaves_the_pattern_and_the_true_tile_as_they_are(probe):
    factory = FrameFactory(probe, (16, 16), 1, seed=1, recipe=SMALL)
    plain = factory.sample(tile(probe), noise())
    turned = factory.sample(tile(probe) * np.exp(2.5j), noise())
    torch.testing.assert_close(turned.counts.sum(), plain.counts.sum(), rtol=0.02, atol=0)
    for a, b in zip(turned[1:], plain[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_the_gauge_is_the_phase_under_the_light(probe):
    light = torch.as_tensor(probe).abs().square().sum(dim=0)
    flat = torch.full((1, 32, 32), np.exp(0.7j), dtype=torch.complex64)
    flat[:, :2] = -1  # in the dark
    assert gauge_phase(flat, light).item() == pytest.approx(0.7, abs=0.01)


def test_true_tiles_are_in_the_gauge_that_no_pattern_holds(probe):
    sample = FrameFactory(probe, (32, 32), 8, seed=1, recipe=SMALL).make(0)
    tiles = (sample.amplitude * torch.complex(sample.cos, sample.sin))[:, 0]
    light = torch.as_tensor(probe).abs().square().sum(dim=0)
    assert gauge_phase(tiles, light).abs().max() < 1e-5
    torch.testing.assert_close(sample.cos**2 + sample.sin**2, torch.ones_like(sample.cos))


def test_the_true_tile_is_the_centre_of_what_the_probe_saw(probe):
    whole, part = (
        FrameFactory(probe, shape, 4, seed=1, recipe=SMALL).make(3) for shape in ((32, 32), (16, 8))
    )
    torch.testing.assert_close(part.amplitude, whole.amplitude[..., 8:24, 12:20])
    assert torch.equal(part.counts, whole.counts)


def test_a_batch_depends_on_the_seed_and_its_number_alone(probe):
    all_of_them = list(FrameFactory(probe, (32, 32), 4, 1, SMALL, batches=range(5)))
    later = list(FrameFactory(probe, (32, 32), 4, 1, SMALL, batches=range(3, 5)))
    for a, b in zip(all_of_them[3:], later, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    other = FrameFactory(probe, (32, 32), 4, 2, SMALL).make(0)
    assert not torch.equal(other.counts, all_of_them[0].counts)
    assert not torch.equal(all_of_them[0].counts, all_of_them[1].counts)


def test_workers_give_what_one_process_would(probe):
    factory = FrameFactory(probe, (32, 32), 2, 1, SMALL, batches=range(5))
    alone = [sample.counts for sample in factory]
    shared = [sample[0] for sample in DataLoader(factory, batch_size=None, num_workers=2)]
    assert len(shared) == 5
    assert all(torch.equal(a, b) for a, b in zip(shared, alone, strict=True))


def test_frames_need_not_be_square(probe):
    sample = FrameFactory(probe[:, :, 4:28], (16, 8), 12, seed=1, recipe=SMALL).make(0)
    assert sample.counts.shape == (12, 1, 32, 24)


def test_objects_smaller_than_the_probe_are_refused(probe):
    with pytest.raises(ValueError, match="smaller than the probe"):
        FrameFactory(probe, (32, 32), 4, 1, SimulationRecipe(object_size=24))


def test_the_losss_weight_is_the_light_and_one_on_average(probe):
    weight = probe_weight_map(probe, (16, 16)).numpy()
    assert weight.shape == (1, 1, 16, 16)
    assert weight.mean().item() == pytest.approx(1)
    assert weight.min() > 0
    light = np.square(np.abs(probe)).sum(axis=0)[8:24, 8:24]
    np.testing.assert_allclose(
        (weight[0, 0] - weight.min()) / np.ptp(weight), (light - light.min()) / np.ptp(light), atol=1e-5
    )
