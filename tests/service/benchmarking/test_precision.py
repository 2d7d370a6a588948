"""What fewer bits are worth, and can be."""

from __future__ import annotations

import pytest

from model.bundle import find_bundle
from model.scans import open_scan
from service.benchmarking.precision import convolutions_share
from service.commands.flags import SHIPPED_SCAN


def test_most_of_the_shipped_network_is_not_convolutions_so_that_8_bits_cannot_double_its_speed():
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    with open_scan(SHIPPED_SCAN) as scan:
        frames = scan.frames(slice(0, 16))
    assert 0.2 < convolutions_share(find_bundle("siemens-star") / "model.onnx", frames, threads=1) < 0.5
