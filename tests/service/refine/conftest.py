"""A finished scan of the small instrument, and what refines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from model.bundle import Bundle
from model.refinement import ObjectRefinement
from service.paint import Painted


@pytest.fixture
def taken(journey: Callable[..., Any], stream: Callable[..., Any]) -> Any:
    """Return the journey of the small scan, all of its 64 frames in the mosaic."""
    told = journey().take(stream())
    told.result()
    return told


@pytest.fixture
def painted(taken: Any) -> list[Painted]:
    """Return what was stitched, batch by batch."""
    batches: list[Painted] = taken.painted
    return batches


@pytest.fixture
def engine(loaded_bundle: Bundle) -> ObjectRefinement:
    """Return what refines with the small bundle's probe."""
    return ObjectRefinement(loaded_bundle.probe, loaded_bundle.description.invalid_counts)
