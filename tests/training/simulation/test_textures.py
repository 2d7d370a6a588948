from importlib.resources import files

import numpy as np
import pytest

from training.simulation.textures import IMAGES, grey_image, random_view


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_lies_in_the_installed_package(name):
    assert files("skimage.data").joinpath(name).is_file()


def test_images_are_grey_and_larger_than_a_view_at_the_finest_zoom():
    for name in IMAGES:
        image = grey_image(name)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
        assert min(image.shape) > 96


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    grey_image.cache_clear()
    assert all(grey_image(name).size for name in IMAGES)


def test_views_differ_in_place_direction_and_scale():
    views = [random_view(np.random.default_rng(seed), 64) for seed in range(20)]
    assert all(view.shape == (64, 64) and view.dtype == np.float32 for view in views)
    assert all(0 <= view.min() <= view.max() <= 1 for view in views)
    assert len({view.tobytes() for view in views}) == 20


def test_an_image_that_is_not_there_is_missed():
    with pytest.raises(FileNotFoundError):
        grey_image("unicorn.png")
