import numpy as np
import pytest
import torch
from networks import random_network

from model.network import NetworkConfig
from model.optics import centre_crop, spectrum
from model.sadgs import SadgsConfig
from model.tilt import TiltMatch, _derivative

TILE = 16


def network(probe, **changes):
    how = {"amplitude_range": 1.0, "exposure": "kept-out", "match_tilt": True, **changes}
    return random_network(probe, TILE, **how)


def ramp(probe, slopes):
    """The phase of a ramp over a whole frame, counted from the middle of the light in the tile."""
    light = np.square(np.abs(centre_crop(probe, (TILE, TILE)))).sum(axis=0)
    inset = probe.shape[1] // 2 - TILE // 2
    grid = np.indices(probe.shape[1:]).astype(float)
    middle = [np.average(np.arange(TILE), weights=light.sum(axis=other)) + inset for other in (1, 0)]
    return sum(slope * (axis - m) for slope, axis, m in zip(slopes, grid, middle, strict=True))


def waves_of(objects, probe):
    fields = spectrum(probe * objects[:, None])
    return torch.tensor(np.stack([fields.real, fields.imag], axis=2), dtype=torch.float32)


def matched(probe, painted, true, strength=1.0, valid=None):
    """The slopes that the step finds for painted objects, by the counts of the true ones; and both errors."""
    waves, seen = waves_of(painted, probe), waves_of(true, probe)
    roots = [torch.square(field).sum(dim=(1, 2)).sqrt()[:, None] for field in (seen, waves)]
    valid = torch.ones_like(roots[0], dtype=torch.bool) if valid is None else valid
    error = roots[0] - roots[1]
    strengths = torch.full((len(painted), 1, 1, 1), strength)
    tilt, change = TiltMatch(probe, (TILE, TILE))(waves, error, valid, strengths)
    return tilt.numpy(), torch.square(error).sum(dim=(1, 2, 3)).numpy(), change.numpy()


def tilted(objects, probe, *slopes):
    return (objects * np.exp(1j * ramp(probe, slopes))).astype(np.complex64)


@pytest.mark.parametrize("edge", [8, 32])
def test_a_far_fields_derivative_is_the_far_field_times_position(rng, edge):
    line = rng.normal(size=edge) + 1j * rng.normal(size=edge)
    line[0] = 0
    x = np.arange(edge) - edge // 2
    np.testing.assert_allclose(
        _derivative(edge) @ spectrum(line[None])[0], spectrum((1j * x * line)[None])[0]
    )


@pytest.mark.parametrize("slopes", [(0.004, 0.0), (0.0, -0.006), (-0.003, 0.005)])
def test_a_wrong_ramp_is_found_from_the_pattern_alone(probe, tiles, slopes):
    found, before, change = matched(200 * probe, tiles, tilted(tiles, probe, *slopes))
    np.testing.assert_allclose(found, np.tile(slopes, (len(tiles), 1)), atol=6e-4)
    assert (change < -0.9 * before).all()


def test_a_right_tile_is_left_as_it_is(probe, tiles):
    found, _, change = matched(probe, tiles, tiles)
    np.testing.assert_allclose(found, 0, atol=1e-5)
    np.testing.assert_allclose(change, 0, atol=1e-4)


def test_the_fewer_the_photons_the_less_is_made_of_a_shift(probe, tiles):
    true = tilted(tiles, probe, 0.01, 0.0)
    strong, weak, dark = (matched(probe, tiles, true, strength)[0][:, 0] for strength in (1e3, 1e-1, 1e-3))
    assert (strong > weak).all()
    assert (weak > dark).all()
    assert (dark > 0).all()


def test_a_pattern_of_another_sample_turns_a_tile_by_a_quarter_of_a_detector_pixel_at_most(probe, tiles):
    found, *_ = matched(200 * probe, tiles, tilted(tiles, probe, 0.5, -0.5))
    assert np.abs(found).max() <= 0.25 * 2 * np.pi / probe.shape[1] + 1e-6


def test_pixels_that_do_not_count_move_no_tile(probe, tiles, rng):
    valid = torch.tensor(rng.random((len(tiles), 1, *probe.shape[1:])) > 0.2)
    true = tilted(tiles, probe, 0.004, -0.002)
    spoilt = torch.where(valid, 0.0, 1e3)
    waves, seen = waves_of(tiles, probe), waves_of(true, probe)
    error = (
        torch.square(seen).sum(dim=(1, 2)).sqrt()[:, None]
        - torch.square(waves).sum(dim=(1, 2)).sqrt()[:, None]
    )
    match, strength = TiltMatch(probe, (TILE, TILE)), torch.ones(len(tiles), 1, 1, 1)
    for a, b in zip(
        match(waves, error, valid, strength), match(waves, error + spoilt, valid, strength), strict=True
    ):
        assert torch.equal(a, b)


def test_a_ramp_turns_the_phase_and_nothing_else(probe, rng):
    phase_rad, slopes = rng.uniform(-3, 3, (2, 1, TILE, TILE)), np.array([[0.01, -0.005], [0.0, 0.012]])
    match = TiltMatch(probe, (TILE, TILE))
    planes = (torch.tensor(part, dtype=torch.float32) for part in (np.cos(phase_rad), np.sin(phase_rad)))
    cos, sin = match.turned(torch.tensor(slopes, dtype=torch.float32), *planes)
    np.testing.assert_allclose(torch.hypot(cos, sin), 1, atol=1e-6)
    ramps = np.stack([centre_crop(ramp(probe, pair), (TILE, TILE)) for pair in slopes])[:, None]
    np.testing.assert_allclose((cos + 1j * sin).numpy(), np.exp(1j * (phase_rad + ramps)), atol=2e-4)


def test_the_light_on_a_tile_keeps_its_mean_phase_when_the_tile_is_tilted(probe):
    light = np.square(np.abs(centre_crop(probe, (TILE, TILE)))).sum(axis=0)
    ramps = TiltMatch(probe, (TILE, TILE)).ramps.numpy()
    np.testing.assert_allclose(ramps @ light.ravel() / light.sum(), 0, atol=1e-4)


def test_a_network_that_matches_tilts_paints_the_same_tiles_but_for_a_ramp(probe, tiles):
    counts = torch.tensor(np.square(np.abs(spectrum(30 * probe * tiles[:, None]))).sum(axis=1)[:, None])
    as_painted, matching = network(probe, match_tilt=False), network(probe)
    matching.load_state_dict(as_painted.state_dict())
    with torch.inference_mode():
        before, after = as_painted(counts), matching(counts)
    torch.testing.assert_close(after.amplitude, before.amplitude, rtol=0, atol=0)
    turn = torch.complex(after.cos, after.sin) * torch.complex(before.cos, before.sin).conj()
    across = (turn[..., 1:] * turn[..., :-1].conj()).angle()
    assert across.abs().max() > 0.02
    torch.testing.assert_close(across, across[..., :1, :1].expand_as(across), atol=2e-3, rtol=0)


def test_the_residual_that_goes_with_a_matched_tile_is_no_greater_than_before(probe, tiles):
    counts = torch.tensor(np.square(np.abs(spectrum(30 * probe * tiles[:, None]))).sum(axis=1)[:, None])
    as_painted, matching = network(probe, match_tilt=False), network(probe)
    with torch.inference_mode():
        before, after = as_painted.explained(counts)[1], matching.explained(counts)[1]
        torch.testing.assert_close(before, as_painted.residual(counts, as_painted(counts)))
    assert (after < before).all()


@pytest.mark.parametrize("counts", [torch.zeros(1, 1, 32, 32), torch.full((1, 1, 32, 32), 65535.0)])
def test_a_frame_that_says_nothing_gives_a_finite_tile(probe, counts):
    with torch.inference_mode():
        prediction, residual = network(probe).explained(counts)
    assert all(torch.isfinite(plane).all() for plane in (*prediction[:5], residual))


def test_the_papers_network_has_no_probe_to_match_a_tilt_by():
    with pytest.raises(ValueError, match="knows no probe"):
        NetworkConfig("paper", SadgsConfig(500.0), (32, 32), (32, 32), match_tilt=True)
