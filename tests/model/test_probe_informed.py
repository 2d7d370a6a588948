import numpy as np
import pytest
import torch
from networks import random_network as network

from model.optics import centre_crop, far_field
from model.probe_informed import PROBE_EPSILON, FarField, ProbeInformedNetwork, _of_both, complex_product


def planes(field):
    return torch.tensor(np.stack([field.real, field.imag], axis=-3), dtype=torch.float32)


def whole(field_planes):
    real, imaginary = field_planes.numpy().swapaxes(0, -3)
    return real + 1j * imaginary


def in_window(tiles, tile):
    """Objects that are 1 outside the window, as the network takes them to be."""
    seen = np.ones_like(tiles)
    centre_crop(seen, (tile, tile))[...] = centre_crop(tiles, (tile, tile))
    return seen


@pytest.mark.parametrize("frame", [(16, 12), (15, 9), (16, 9)])
@pytest.mark.parametrize("margin", [(0, 0), (5, 4), (6, 1)])
def test_matrix_products_propagate_as_numpys_transform_and_back(rng, frame, margin):
    window = (frame[0] - margin[0], frame[1] - margin[1])
    field = rng.normal(size=(3, *window)) + 1j * rng.normal(size=(3, *window))
    padded = np.zeros((3, *frame), complex)
    centre_crop(padded, window)[...] = field
    expected = np.fft.fftshift(np.fft.fft2(padded, norm="ortho"), axes=(-2, -1))
    propagator = FarField(frame, window)
    at_detector = propagator(planes(field))
    np.testing.assert_allclose(whole(at_detector), expected, atol=2e-5)
    np.testing.assert_allclose(whole(propagator.back(at_detector)), field, atol=2e-5)


def test_the_propagation_stays_in_single_precision_under_autocast(probe):
    propagator, field = FarField((32, 32), (16, 16)), torch.randn(1, 2, 16, 16) * 300
    with torch.autocast("cpu", torch.bfloat16):
        mixed = propagator(field.bfloat16())
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, propagator(field.bfloat16().float()))


def test_planes_multiply_as_complex_numbers(tiles):
    product = complex_product(planes(tiles[:3]), planes(tiles[3:]))
    np.testing.assert_allclose(whole(product), tiles[:3] * tiles[3:], atol=1e-5)


def test_planes_and_maps_meet_their_weights_apart_as_they_would_side_by_side(probe):
    stem, dice = network(probe).first.stem, torch.Generator().manual_seed(3)
    both = torch.randn(2, stem.in_channels, 16, 16, generator=dice)
    apart = _of_both(stem, both[:, :3], both[:, 3:])
    torch.testing.assert_close(apart, stem(both), atol=1e-5, rtol=1e-5)


def test_the_empty_beam_gives_no_object_update(probe):
    n = network(probe)
    assert n._from_empty_beam(n.light.empty).abs().max() == 0


def test_the_first_step_is_the_projection_that_numpy_computes(probe, tiles):
    mode = probe[:1]
    n = network(mode)
    counts = far_field(mode, tiles)
    low, high = n.config.sadgs.gains
    field = np.fft.fftshift(np.fft.fft2(mode[0], norm="ortho"))
    empty = np.abs(field) ** 2
    direction = field / np.sqrt(empty + 1e-6 * empty.max())
    light = np.abs(mode[0]) ** 2
    updates = []
    for gain in (low, high):
        root, root_empty = (np.sqrt(np.clip(gain * x, 0, 4095) / gain) for x in (counts, empty))
        missing = np.fft.ifftshift((root - root_empty) * direction, axes=(-2, -1))
        wave = np.fft.ifft2(missing, norm="ortho")
        update = wave * mode[0].conj() / (light + PROBE_EPSILON * light.max())
        updates += [update.real, update.imag]
    found = n._from_empty_beam(torch.tensor(counts)[:, None]).numpy()
    np.testing.assert_allclose(found, np.stack(updates, axis=1), atol=1e-4)


def test_the_first_step_points_from_the_empty_beam_towards_a_weak_object(probe, tiles):
    mode, weak = probe[:1], (1 + 0.03 * (tiles - tiles.mean())).astype(np.complex64)
    n = network(mode, percentile_counts=2e4)
    update = n._from_empty_beam(torch.tensor(far_field(mode, weak))[:, None])[:, :2]
    light = np.abs(mode[0]) ** 2
    towards = (light * (whole(update) * (weak - 1).conj()).real).sum(axis=(1, 2))
    assert (towards > 0).all()


@pytest.mark.parametrize("tile", [32, 16])
def test_the_true_object_needs_no_correction(probe, tiles, tile):
    seen = in_window(tiles, tile)
    n, counts = network(probe, tile), torch.tensor(far_field(probe, seen))[:, None]
    at_truth = n._correction(counts, planes(centre_crop(seen, (tile, tile))))
    at_empty = n._correction(counts, planes(np.ones((6, tile, tile), np.complex64)))
    assert at_truth.abs().max() < 2e-3
    assert at_empty.abs().max() > 0.1


def test_a_correction_brings_the_pattern_nearer_to_the_measured_one(probe, tiles):
    n, counts = network(probe), far_field(probe, tiles)
    start = (tiles * np.exp(0.3j * np.angle(tiles))).astype(np.complex64)
    update = n._correction(torch.tensor(counts)[:, None], planes(start))
    step = sum(whole(update[:, 2 * m : 2 * m + 2]) for m in range(len(probe)))

    def misfit(objects):
        return np.square(np.sqrt(far_field(probe, objects)) - np.sqrt(counts)).sum(axis=(1, 2))

    assert (misfit((start + 0.5 * step).astype(np.complex64)) < misfit(start)).all()


def test_a_masked_pixel_is_taken_to_show_the_empty_beam(probe, tiles):
    n, counts = network(probe), torch.tensor(far_field(probe, tiles))[:, None]
    masked, filled = counts.clone(), counts.clone()
    masked[..., 16, 10:20], filled[..., 16, 10:20] = 65535, n.light.empty[..., 16, 10:20]
    assert torch.equal(n(masked).amplitude, n(filled).amplitude)
    assert not torch.equal(n(masked).amplitude, n(counts).amplitude)


def test_each_frame_is_reconstructed_alone(probe, tiles):
    n, counts = network(probe), torch.tensor(far_field(probe, tiles))[:, None]
    together, alone = n(counts), n(counts[2:3])
    for a, b in zip(together[:5], alone[:5], strict=True):
        torch.testing.assert_close(a[2:3], b, atol=1e-3, rtol=0)


def test_a_tile_smaller_than_the_frame_is_painted(probe):
    assert network(probe, tile=16)(torch.ones(2, 1, 32, 32)).cos.shape == (2, 1, 16, 16)


def test_each_further_step_adds_a_network_of_its_own(probe):
    sizes = [sum(p.numel() for p in network(probe, steps=s).parameters()) for s in (1, 2, 3)]
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] > 0


def test_the_probe_travels_with_the_weights_and_the_transform_does_not(probe):
    keys = network(probe).state_dict().keys()
    assert "light.window_modes" in keys
    assert not any(key.startswith("far_field") for key in keys)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.ones((32, 32), np.complex64), "shape"),
        (np.ones((1, 16, 16), np.complex64), "shape"),
        (np.zeros((1, 32, 32), np.complex64), "right file"),
        (np.full((1, 32, 32), np.nan, np.complex64), "right file"),
    ],
)
def test_a_probe_that_does_not_fit_is_refused(probe, wrong, reason):
    config = network(probe).config
    with pytest.raises(ValueError, match=reason):
        ProbeInformedNetwork(config, wrong)
