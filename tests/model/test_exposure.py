import numpy as np
import pytest
import torch
from networks import random_network

from model.optics import far_field, tile_residual

GAP = 65535.0


def network(probe, exposure="kept-out", tile=32):
    return random_network(probe, tile, amplitude_range=2.5, exposure=exposure)


def counts_of(probe, tiles):
    return torch.tensor(far_field(probe, tiles))[:, None]


def test_the_network_is_told_how_strong_a_frame_is_and_its_amplitude_goes_with_the_root(probe, tiles):
    counts = counts_of(probe, tiles)
    seen = network(probe)
    with torch.inference_mode():
        once, double = seen(counts), seen(2 * counts)
    ratio = double.amplitude / once.amplitude
    noise_told = torch.log2(seen.strength(2 * counts) / seen.strength(counts))
    torch.testing.assert_close(noise_told, torch.ones_like(noise_told), atol=1e-3, rtol=0)
    assert ratio.mean().item() == pytest.approx(np.sqrt(2), rel=0.05)


def test_a_network_that_is_not_told_the_noise_gives_the_same_phase_at_any_exposure(probe, tiles):
    seen = network(probe)
    with torch.no_grad():
        for unet in (seen.first, *seen.later):
            unet.stem.weight[:, -1] = 0  # the plane that tells the exposure
    counts = counts_of(probe, tiles)
    with torch.inference_mode():
        once, double = seen(counts), seen(2 * counts)
    torch.testing.assert_close(double.cos, once.cos, atol=2e-3, rtol=0)
    torch.testing.assert_close(double.amplitude, once.amplitude * 2**0.5, atol=2e-3, rtol=1e-3)


def test_absolute_counts_have_no_strength(probe, tiles):
    strength = network(probe, "absolute").strength(7 * counts_of(probe, tiles))
    assert (strength == 1).all()


def test_a_gap_in_the_detector_does_not_look_like_a_weaker_beam(probe):
    empty_beam = torch.tensor(far_field(probe, np.ones((1, 32, 32), np.complex64)))[:, None]
    gapped = empty_beam.clone()
    gapped[..., 14:18] = GAP
    assert network(probe).strength(gapped).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("exposure", ["absolute", "kept-out"])
def test_a_black_frame_and_a_masked_one_give_numbers(probe, exposure):
    counts = torch.stack([torch.zeros(1, 32, 32), torch.full((1, 32, 32), GAP)])
    seen = network(probe, exposure)
    with torch.inference_mode():
        prediction = seen(counts)
        residual = seen.residual(counts, prediction)
    assert all(torch.isfinite(plane).all() for plane in prediction[:5])
    assert torch.isfinite(residual).all()


@pytest.mark.parametrize("tile", [16, 32])
def test_the_residual_is_that_of_the_predicted_tile(probe, tiles, tile):
    counts = counts_of(probe, tiles).round()
    counts[:, :, 5] = GAP
    seen = network(probe, "absolute", tile)
    with torch.inference_mode():
        said = seen(counts)
        residual = seen.residual(counts, said).numpy()
    painted = (said.amplitude * torch.complex(said.cos, said.sin))[:, 0].numpy()
    for k, (frame, tile_said) in enumerate(zip(counts[:, 0].numpy(), painted, strict=True)):
        assert residual[k] == pytest.approx(tile_residual(probe, tile_said, frame, frame >= GAP), rel=1e-3)


def test_the_residual_does_not_depend_on_the_exposure(probe, tiles):
    seen = network(probe)
    counts = counts_of(probe, tiles)
    with torch.inference_mode():
        said = seen(counts)
        stronger = said._replace(amplitude=said.amplitude * 2)
        torch.testing.assert_close(
            seen.residual(4 * counts, stronger), seen.residual(counts, said), rtol=1e-3, atol=0
        )
