"""Every stream format, from a detector's socket to the stitched scan."""

import pytest

from service.replay import FORMATS

FRAMES = 64
LOOPBACK = "tcp://127.0.0.1:*"
STREAM = {"positions": LOOPBACK, "positions_bind": True}


@pytest.mark.parametrize("positions", [{}, STREAM], ids=["positions in the header", "positions of their own"])
@pytest.mark.parametrize("format_", ["dectris-v1", "array-1.0"])
def test_a_scan_in_either_format_is_stitched_whole(serve, format_, positions):
    running = serve(images_format=format_, **positions)
    running.replay()
    counts = running.finished().ledger.counts()
    assert (counts.expected, counts.stitched, counts.dropped) == (FRAMES, FRAMES, {})


@pytest.mark.parametrize("format_", FORMATS)
def test_a_service_that_is_not_told_the_format_finds_it_out(serve, format_):
    running = serve(images_format="auto")
    running.replay(format=format_)
    run = running.finished()
    assert run.ledger.counts().stitched == FRAMES
    assert "start" not in run.warnings
