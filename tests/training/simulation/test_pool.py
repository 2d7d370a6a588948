from itertools import count

import numpy as np
import pytest
import torch

from training.simulation.pool import NumberedObjects, ObjectPool, Places, draw_places
from training.simulation.transmission import ObjectRecipe


def ramp(number):
    """An object whose every pixel tells the object, its row and its column."""
    y, x = np.mgrid[:10, :10]
    return torch.as_tensor(100 * number + y + 1j * x, dtype=torch.complex64)


def pool(capacity=4, first=0):
    return ObjectPool(map(ramp, count(first)), first, capacity, 10, torch.device("cpu"))


def places(**where):
    names = ("objects", "corner_y", "corner_x", "orientations")
    return Places(*(np.array([where.get(name, 0)]) for name in names))


def test_a_tile_is_the_window_at_its_corner():
    ready = pool()
    ready.advance(3)
    tile = ready.cut(places(objects=2, corner_y=1, corner_x=4), (3, 5))[0]
    assert torch.equal(tile, ramp(2)[1:4, 4:9])


def test_the_eight_orientations_of_a_square_are_all_there_and_no_other():
    ready = pool()
    ready.advance(1)
    found = {ready.cut(places(orientations=o), (4, 4))[0].numpy().tobytes() for o in range(8)}
    window = ramp(0)[:4, :4].numpy()
    known = {np.rot90(side, turns).tobytes() for side in (window, window.T) for turns in range(4)}
    assert found == known
    assert len(found) == 8


def test_tiles_that_are_not_square_lie_within_the_object_in_every_orientation():
    ready = pool()
    ready.advance(4)
    drawn = draw_places(np.random.default_rng(1), 500, range(4), 10, (3, 9))
    tiles = ready.cut(drawn, (3, 9))
    assert tiles.shape == (500, 3, 9)
    rows, columns = tiles.real % 100, tiles.imag
    spread = {tuple(np.ptp(a.numpy(), axis=(1, 2)).max() for a in (rows, columns))}
    assert spread == {(8.0, 8.0)}
    assert (tiles.real // 100 == torch.as_tensor(drawn.objects)[:, None, None]).all()


def test_new_objects_replace_the_oldest():
    ready = pool(capacity=2, first=5)
    ready.advance(9)
    for kept in (7, 8):
        assert torch.equal(ready.cut(places(objects=kept), (10, 10))[0], ramp(kept))


def test_an_object_depends_on_its_seed_and_number_alone():
    row = NumberedObjects(ObjectRecipe(), 48, seed=3)
    (later,) = (torch.as_tensor(row[j]) for j in (6,))
    *_, last = zip(range(2), row.drawn(range(5, 100), workers=0), strict=False)
    assert torch.equal(last[1], later)
    assert not np.array_equal(NumberedObjects(ObjectRecipe(), 48, seed=4)[6], row[6])


@pytest.mark.parametrize("workers", [0, 2])
def test_drawing_objects_leaves_the_random_weights_of_a_network_as_they_were(workers):
    torch.manual_seed(1)
    undisturbed = torch.rand(3)
    torch.manual_seed(1)
    next(NumberedObjects(ObjectRecipe(), 32, seed=3).drawn(range(3), workers))
    assert torch.equal(torch.rand(3), undisturbed)
