import numpy as np
import pytest

from training.datasets.raster import find_raster


def turned(raster, degrees):
    """Positions of lines and places at steps of 7 and 5, lines turned from the columns' way upwards."""
    angle = np.radians(degrees)
    across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return 7.0 * raster[:, :1] * across + 5.0 * raster[:, 1:] * along


@pytest.mark.parametrize("degrees", [-40, -12, 0, 30, 44])
@pytest.mark.parametrize("way", ["to and fro", "always the same way"])
def test_lines_are_found_however_the_raster_is_turned(degrees, way):
    raster = np.indices((6, 50)).reshape(2, -1).T
    if way == "to and fro":
        back = raster[:, 0] % 2 == 1
        raster[back, 1] = 49 - raster[back, 1]
    jitter = np.random.default_rng(1).uniform(-0.6, 0.6, raster.shape)
    found = find_raster(turned(raster, degrees) + jitter)
    np.testing.assert_array_equal(found.places, raster)
    angle = np.degrees(np.arctan2(-found.directions[1, 0], found.directions[1, 1]))
    assert angle == pytest.approx(degrees, abs=0.5)


def test_lines_that_run_down_the_rows_grow_with_the_columns():
    raster = np.indices((4, 9)).reshape(2, -1).T
    found = find_raster(turned(raster, 0)[:, ::-1])
    np.testing.assert_array_equal(found.places, raster)
    np.testing.assert_allclose(found.directions, [[0, 1], [1, 0]], atol=1e-12)


def test_lines_and_places_grow_at_a_right_angle():
    spiral = np.cumsum(np.random.default_rng(2).normal(size=(60, 2)), axis=0)
    directions = find_raster(spiral).directions
    np.testing.assert_allclose(np.abs(directions @ directions.T), np.eye(2), atol=1e-12)
