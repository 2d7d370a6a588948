import numpy as np
import pytest
import torch

from model.optics import far_field
from model.scans import Reference, write_scan

torch.set_num_threads(1)

PIXEL_M = 2e-8


@pytest.fixture(scope="session")
def probe():
    """Two modes on 32 x 32 pixels, defocused, about 50 000 photons."""
    y, x = np.mgrid[:32, :32] - 16.0
    r2 = y**2 + x**2
    first = np.exp(-r2 / 60 + 0.06j * r2)
    modes = np.stack([first, 0.2 * x * first])
    scale = np.sqrt(50_000 / np.square(np.abs(modes)).sum())
    return (scale * modes).astype(np.complex64)


@pytest.fixture(scope="session")
def scan(probe, tmp_path_factory):
    """A scan file whose reference holds the probe."""
    path = tmp_path_factory.mktemp("scan") / "measured.cxi"
    reference = Reference(
        object=np.ones((40, 40), np.complex64),
        probe=probe,
        coverage=np.ones((40, 40), np.float32),
        positions_px=np.zeros((1, 2)),
        object_pixel_m=PIXEL_M,
    )
    write_scan(
        path,
        np.zeros((1, 32, 32), np.uint16),
        np.zeros((1, 2)),
        wavelength_m=1e-10,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        reference=reference,
    )
    return path


@pytest.fixture(scope="session")
def turned_scan(probe, tmp_path_factory):
    """Five lines of forty places, turned by thirty degrees; two reconstructions of them, one with noise."""
    dice = np.random.default_rng(5)
    lines, places = (number.ravel() for number in np.mgrid[:5, :40])
    along, across = np.array([-0.5, np.sqrt(0.75)]), np.array([np.sqrt(0.75), 0.5])
    corners = 4 * (lines[:, None] * across + places[:, None] * along) + [80.3, 2.6]
    y, x = np.mgrid[:130, :180]
    truth = np.exp(0.3j * (np.sin(y / 6) + np.cos(x / 5 + y / 11))).astype(np.complex64)
    whole = np.rint(corners).astype(int)
    tiles = np.stack([truth[y : y + 32, x : x + 32] for y, x in whole])
    noisy = truth * np.exp(0.2j * dice.normal(size=truth.shape)).astype(np.complex64)
    path = tmp_path_factory.mktemp("turned") / "turned.cxi"
    write_scan(
        path,
        dice.poisson(far_field(probe, tiles)).astype(np.uint16),
        (corners + 16) * PIXEL_M,
        wavelength_m=1e-10,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        reference=Reference(
            truth, probe, np.ones(truth.shape, np.float32), corners, PIXEL_M, {"object_noisy": noisy}
        ),
    )
    return path
