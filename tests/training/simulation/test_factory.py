from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from training.simulation.camera import CameraRecipe
from training.simulation.factory import FrameFactory, SimulationRecipe, gauge_phase, probe_weight_map
from training.simulation.transmission import ObjectRecipe

SMALL = SimulationRecipe(object_size=64, tiles_per_object=4, pool_objects=4)
STILL = replace(SMALL, camera=CameraRecipe())


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def tile(probe, n=1):
    """The same smooth object n times."""
    y, x = np.mgrid[:32, :32] / 32
    transmission = ((0.8 + 0.1 * x) * np.exp(1j * (np.sin(7 * x) + y**2))).astype(np.complex64)
    return torch.as_tensor(np.repeat(transmission[None], n, axis=0))


def test_a_global_phase_leaves_the_pattern_and_the_true_tile_as_they_are(probe):
    factory = FrameFactory(probe, (16, 16), 1, seed=1, recipe=STILL)
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


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_batches_whatever_the_number_of_workers(probe, workers):
    alone = list(FrameFactory(probe, (32, 32), 2, 1, SMALL, range(5)))
    shared = list(FrameFactory(probe, (32, 32), 2, 1, SMALL, range(5), workers=workers))
    assert len(shared) == 5
    for a, b in zip(shared, alone, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_is_cut_from_many_objects_and_the_next_from_nearly_the_same(probe):
    recipe = replace(SMALL, pool_objects=6)
    one, two = (FrameFactory(probe, (32, 32), 8, 1, recipe).objects_of(k) for k in (0, 1))
    assert len(one) == len(two) == 6
    assert two.start - one.start == 2  # eight tiles, four of an object


def test_four_times_the_exposure_looks_like_an_object_twice_as_strong(probe):
    once, long = (
        FrameFactory(probe, (32, 32), 16, 1, replace(SMALL, camera=CameraRecipe(exposure=(e, e)))).make(2)
        for e in (1.0, 4.0)
    )
    assert (long.counts.sum() / once.counts.sum()).item() == pytest.approx(4, rel=0.02)
    torch.testing.assert_close(long.amplitude, 2 * once.amplitude)
    torch.testing.assert_close((long.cos, long.sin), (once.cos, once.sin))


def test_flaws_of_the_detector_change_no_label(probe):
    clean, flawed = (
        FrameFactory(probe, (32, 32), 8, 1, replace(SMALL, camera=CameraRecipe(flawed_share=f))).make(0)
        for f in (0.0, 1.0)
    )
    assert (flawed.counts == 65535).any()
    assert not (clean.counts == 65535).any()
    assert all(torch.equal(a, b) for a, b in zip(clean[1:], flawed[1:], strict=True))


def test_phases_of_several_turns_are_on_the_circle(probe):
    objects = ObjectRecipe(weak_share=0, turns_share=1, phase_span_rad=(15.0, 15.0))
    sample = FrameFactory(probe, (32, 32), 16, 1, replace(SMALL, objects=objects)).make(0)
    torch.testing.assert_close(sample.cos**2 + sample.sin**2, torch.ones_like(sample.cos))
    assert (sample.cos.amin(dim=(1, 2, 3)) < -0.99).sum() > 8  # most tiles go all the way round
    assert (sample.cos.amax(dim=(1, 2, 3)) > 0.99).sum() > 8


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


def test_a_recipe_recorded_before_exposure_and_gaps_can_still_be_read():
    old = {
        "objects": {"families": ["bars", "cells"], "phase_span_rad": [0.1, 2.4], "absorption": 0.5},
        "camera": {"flux_jitter": 0.03, "saturation": 4095.0},
        "object_size": 64,
        "tiles_per_object": 16,
    }
    recipe = msgspec.convert(old, SimulationRecipe)
    assert recipe.objects.families == ("bars", "cells")
    assert recipe.camera == CameraRecipe(saturation=4095.0)


@pytest.mark.parametrize("wrong", [{"tiles_per_object": 0}, {"pool_objects": 0}])
def test_frames_of_no_object_are_refused(wrong):
    with pytest.raises(ValueError, match="at least one"):
        SimulationRecipe(**wrong)
