from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from model.optics import far_field
from model.scans import Reference, write_scan
from training.unlabelled.measured import MeasuredScan, read_measured

PIXEL_M = 2e-8


@dataclass(frozen=True)
class Measured:
    """A raster of 12 x 8 frames with counting noise, whose reference is the truth."""

    path: Path
    scan: MeasuredScan
    step_px: ClassVar[int] = 4


def smooth_object(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = np.sin(y / 5) + 0.8 * np.cos(x / 4 + y / 9)
    return ((0.8 + 0.1 * np.sin(x / 6)) * np.exp(1j * phase)).astype(np.complex64)


@pytest.fixture(scope="session")
def measured(probe, tmp_path_factory):
    step, shape = Measured.step_px, (12, 8)
    corners = np.indices(shape).reshape(2, -1).T * step
    whole = smooth_object(tuple(step * (n - 1) + 32 for n in shape))
    tiles = np.stack([whole[y : y + 32, x : x + 32] for y, x in corners])
    counts = np.random.default_rng(1).poisson(far_field(probe, tiles)).astype(np.uint16)
    mask = np.zeros((32, 32), bool)
    mask[:, 3] = True
    reference = Reference(whole, probe, np.ones(whole.shape, np.float32), corners.astype(float), PIXEL_M)
    path = tmp_path_factory.mktemp("measured") / "raster.cxi"
    write_scan(
        path,
        counts,
        corners * PIXEL_M,
        wavelength_m=1e-10,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        mask=mask,
        reference=reference,
    )
    return Measured(path, read_measured(path))
