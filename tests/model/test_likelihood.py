import numpy as np
import pytest
import torch
from scipy.special import xlogy

from model.likelihood import Diffraction, frame_residual, poisson_deviance
from model.optics import far_field, tile_residual

ALL = torch.ones(1, dtype=torch.bool)


def random_tiles(n, size, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.5, 1, (n, size, size)) * np.exp(1j * rng.uniform(-1, 1, (n, size, size)))).astype(
        np.complex64
    )


def smooth_tiles(n, size):
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (y + (k + 1) * x)) for k in range(n)]
    return np.stack([0.8 * np.exp(0.7j * wave) for wave in waves]).astype(np.complex64)


def as_torch(tiles):
    return torch.as_tensor(tiles)[:, None]


def noisy(patterns, seed=3):
    return torch.as_tensor(np.random.default_rng(seed).poisson(patterns).astype(np.float32))


def test_a_tile_of_the_whole_frame_makes_the_far_field_of_all_modes(probe):
    tiles = random_tiles(2, 32)
    patterns = Diffraction(probe, (32, 32))(as_torch(tiles))[:, 0].numpy()
    np.testing.assert_allclose(patterns, far_field(probe, tiles), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (24, 16)])
def test_beyond_the_tile_the_object_is_empty_as_where_residuals_are_computed(probe, shape):
    tile = random_tiles(1, 32)[:, : shape[0], : shape[1]]
    counts = noisy(far_field(probe, random_tiles(1, 32, seed=2)))
    expected = Diffraction(probe, shape)(as_torch(tile))
    residual = frame_residual(expected, counts[:, None], torch.ones(1, 1, 32, 32, dtype=torch.bool))
    assert residual.item() == pytest.approx(tile_residual(probe, tile[0], counts[0].numpy()), rel=1e-4)


def test_the_deviance_is_that_of_poisson_per_pixel():
    rng = np.random.default_rng(1)
    expected = rng.uniform(0.1, 50, (3, 1, 8, 8))
    counts = rng.poisson(expected)
    mean = expected + 0.01
    by_hand = 2 * (mean - counts + xlogy(counts, counts / mean))
    deviance = poisson_deviance(torch.tensor(expected), torch.tensor(counts), ALL.expand(3, 1, 8, 8))
    np.testing.assert_allclose(deviance, by_hand.mean(axis=(1, 2, 3)), rtol=1e-10)


def test_twice_the_likelihoods_logarithm_differs_by_the_deviance():
    expected, counts = torch.rand(2, 1, 4, 4) * 20 + 1, torch.poisson(torch.full((2, 1, 4, 4), 9.0))
    one, other = (
        torch.distributions.Poisson(x).log_prob(counts).mean() for x in (expected, 0 * expected + 9)
    )
    valid = ALL.expand(2, 1, 4, 4)
    ours = [poisson_deviance(x, counts, valid, 0.0).mean() for x in (expected, 0 * expected + 9)]
    assert (ours[1] - ours[0]).item() == pytest.approx(2 * (one - other).item(), rel=1e-4)


def test_counting_noise_alone_costs_about_one_a_pixel():
    expected = torch.full((4, 1, 64, 64), 20.0)
    counts = torch.poisson(expected, generator=torch.Generator().manual_seed(1))
    deviance = poisson_deviance(expected, counts, ALL.expand_as(counts))
    assert deviance.mean().item() == pytest.approx(1.0, abs=0.05)


def test_invalid_pixels_say_nothing():
    expected, counts = torch.rand(2, 1, 8, 8) + 5, torch.full((2, 1, 8, 8), 6.0)
    valid = torch.rand(2, 1, 8, 8) > 0.3
    hot = torch.where(valid, counts, 65535.0)
    for figure in (poisson_deviance, frame_residual):
        assert torch.equal(
            figure(expected, hot, valid), figure(expected, torch.where(valid, counts, 0), valid)
        )
    gap = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    assert poisson_deviance(expected, hot, gap).tolist() == [0, 0]


def test_a_dark_pixel_and_readout_noise_below_zero_give_numbers_and_gradients():
    expected = torch.zeros(1, 1, 4, 4, requires_grad=True)
    counts = torch.tensor([-3.0, 0.0, 0.4, 900.0]).expand(1, 1, 4, 4)
    deviance = poisson_deviance(expected, counts, ALL.expand(1, 1, 4, 4)).sum()
    deviance.backward()
    assert deviance.isfinite()
    assert expected.grad.isfinite().all()


def test_the_likelihoods_slope_is_that_of_finite_differences(probe):
    diffraction = Diffraction(probe.astype(np.complex128), (8, 8))
    tiles = torch.tensor(random_tiles(1, 8).astype(np.complex128))[:, None].requires_grad_()
    counts = noisy(far_field(probe, random_tiles(1, 32, seed=2)))[:, None].double()
    assert torch.autograd.gradcheck(
        lambda x: poisson_deviance(diffraction(x), counts, ALL.expand_as(counts)), tiles, fast_mode=True
    )


def test_the_true_object_is_nearly_the_likeliest(probe):
    truth = as_torch(smooth_tiles(2, 32))
    diffraction = Diffraction(probe, (32, 32))
    counts = torch.poisson(diffraction(truth), generator=torch.Generator().manual_seed(1))

    def deviance(tiles):
        return poisson_deviance(diffraction(tiles), counts, ALL.expand_as(counts)).mean().item()

    best = deviance(truth)
    assert best < 1.1
    for direction in range(4):
        bump = as_torch(random_tiles(2, 32, seed=10 + direction)) - 0.6
        assert deviance(truth + 0.05 * bump) > best
        assert deviance(truth - 0.05 * bump) > best


def test_a_global_phase_does_not_change_the_likelihood(probe):
    truth = as_torch(smooth_tiles(1, 32))
    diffraction = Diffraction(probe, (32, 32))
    torch.testing.assert_close(diffraction(truth * np.exp(2j)), diffraction(truth), rtol=1e-4, atol=1e-3)
