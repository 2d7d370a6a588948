import numpy as np
import pytest
import torch
from networks import REQUEST, TRUSTED, sure_network

from model.export import export_bundle
from model.optics import far_field

torch.set_num_threads(1)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def probe():
    """Two modes on 32 x 32 pixels, defocused, about 50 000 photons."""
    y, x = np.mgrid[:32, :32] - 16.0
    r2 = y**2 + x**2
    first = np.exp(-r2 / 60 + 0.06j * r2)
    modes = np.stack([first, 0.2 * x * first])
    scale = np.sqrt(50_000 / np.square(np.abs(modes)).sum())
    return (scale * modes).astype(np.complex64)


@pytest.fixture
def tiles(rng):
    """Six smooth complex transmissions of 32 x 32 pixels."""
    maps = np.cumsum(np.cumsum(rng.normal(size=(6, 32, 32)), axis=1), axis=2) / 60
    return (np.exp(-0.2 * np.abs(maps)) * np.exp(1j * maps)).astype(np.complex64)


@pytest.fixture(scope="session")
def counts(probe):
    """Frames of 64 smooth phase objects, (64, 1, 32, 32) counted photons."""
    rng = np.random.default_rng(3)
    tiles = np.exp(1j * np.cumsum(np.cumsum(rng.normal(size=(64, 32, 32)), 1), 2) / 60)
    frames = rng.poisson(far_field(probe, tiles.astype(np.complex64)))
    return torch.tensor(frames, dtype=torch.float32)[:, None]


@pytest.fixture(scope="session", params=[TRUSTED, "paper"])
def exported(request, probe, counts, tmp_path_factory):
    """A network, the folder of its bundle, and how near that is to it."""
    folder = tmp_path_factory.mktemp("bundles") / request.param
    network = sure_network(request.param, probe)
    found = export_bundle(network, probe, counts, REQUEST, folder)
    return network, folder, found
