"""The rates of the stream formats: that they are told for all; how high they are is for the benchmark."""

import pytest

from service.benchmarking.formats import CASES, format_rates


def test_every_format_is_measured_beside_the_bare_decompressor():
    pytest.importorskip("dectris.compression", reason="the extra `fast` is not installed")
    said: list[str] = []
    measured = format_rates(1, said.append, sides_px=(16,))
    assert len(measured) == len(CASES) == len(said) - 1
    for rates in measured.values():
        assert rates.bare_hz > 0
        assert rates.ratio == pytest.approx(rates.whole_hz / rates.bare_hz)
