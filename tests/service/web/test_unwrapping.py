"""The unwrapped phase is found once for all who look."""

from __future__ import annotations

from service.web.unwrapping import SharedUnwrapping


def test_a_growing_mosaic_is_unwrapped_once_for_all_who_look_and_again_after_a_rest(view):
    shared, mosaic = SharedUnwrapping(), view.mosaic("star")
    first, is_current = shared.of("star", mosaic)
    assert is_current
    assert shared.of("star", mosaic)[0] is first
    view.stitch(4)
    assert shared.of("star", mosaic) == (first, False)
    assert shared.of("another", mosaic)[1]
