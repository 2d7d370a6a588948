import numpy as np
import pytest
import torch

from training.unlabelled.overlap import disagreement

SIDE = 24
OFFSETS = [(3.0, -2.0), (2.5, 0.25), (-4.75, 6.5), (0.0, 0.0)]


def whole_object(y, x):
    """Smooth transmission at any place (y, x), pixels."""
    phase = 1.5 * np.sin(y / 5) + 1.2 * np.cos(x / 6 + y / 11)
    return (0.8 + 0.15 * np.sin(x / 7)) * np.exp(1j * phase)


def tile_at(centre, phase=0.0):
    rows, columns = (np.arange(SIDE) - SIDE // 2 + c for c in centre)
    cut = whole_object(rows[:, None], columns[None, :]) * np.exp(1j * phase)
    return torch.as_tensor(cut.astype(np.complex64))


def light():
    r2 = sum((axis - SIDE / 2) ** 2 for axis in np.mgrid[:SIDE, :SIDE])
    return torch.as_tensor(np.exp(-r2 / 40).astype(np.float32))[None, None]


def pairs(phase=0.0):
    """Tiles at the same place and at each of the offsets from it."""
    here = torch.stack([tile_at((40.0, 31.0))] * len(OFFSETS))[:, None]
    there = torch.stack([tile_at((40.0 + y, 31.0 + x), phase) for y, x in OFFSETS])[:, None]
    return here, there, torch.tensor(OFFSETS)


@pytest.mark.parametrize("phase", [0.0, 2.0, np.pi])
def test_tiles_of_one_object_agree_whatever_their_absolute_phases(phase):
    assert disagreement(*pairs(phase), light()).item() == pytest.approx(0, abs=2e-4)


def test_tiles_put_at_the_wrong_place_disagree():
    here, there, offsets = pairs()
    right = disagreement(here, there, offsets, light())
    assert disagreement(here, there, offsets + 2.0, light()) > 100 * right
    assert disagreement(here, there, -offsets, light()) > 100 * right


def test_a_phase_that_varies_across_the_tile_is_no_gauge():
    here, there, offsets = pairs()
    ramp = torch.exp(0.2j * torch.arange(SIDE))
    assert disagreement(here, there * ramp, offsets, light()) > 0.05


def mean_under_the_light(values):
    """Interpolation takes a pixel more to either side, so the edge does not count."""
    weight, values = light()[0, 0, 1:-1, 1:-1], values[1:-1, 1:-1]
    return ((weight * values).sum() / weight.sum()).item()


def test_amplitudes_count_by_their_squared_difference():
    tile = tile_at((40.0, 31.0))[None, None]
    found = disagreement(1.25 * tile, tile, torch.zeros(1, 2), light()).item()
    assert found == pytest.approx(mean_under_the_light((0.25 * tile[0, 0].abs()) ** 2), rel=1e-4)


def test_the_phase_term_is_the_mean_of_one_minus_the_cosine_at_the_best_turn():
    tile = tile_at((40.0, 31.0))[None, None]
    angle = 0.3 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    turned = tile * torch.exp(1j * angle)
    found = disagreement(tile, turned, torch.zeros(1, 2), light()).item()
    by_turn = [mean_under_the_light(1 - torch.cos(angle + turn)) for turn in np.linspace(-0.2, 0.2, 401)]
    assert found == pytest.approx(min(by_turn), rel=1e-4)


def test_tiles_that_share_no_pixel_have_nothing_to_disagree_on():
    here, there, offsets = pairs()
    assert disagreement(here, there, offsets + 100.0, light()).item() == 0


def test_the_disagreement_has_a_slope_everywhere():
    here, there, offsets = pairs()
    tiles = torch.cat([here, there]).requires_grad_()
    disagreement(*tiles.chunk(2), offsets, light()).backward()
    assert torch.view_as_real(tiles.grad).isfinite().all()
