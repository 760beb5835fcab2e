"""The views of a photo and the way back."""

import numpy as np
import pytest

from dermsa.inference import views


def test_every_view_is_another_one_and_is_laid_back():
    maps = np.random.default_rng(0).random((2, 5, 5))
    seen = [views.of_images(maps[..., None], view)[..., 0] for view in range(views.MOST)]
    assert len({of.tobytes() for of in seen}) == views.MOST == 8
    for view, of in enumerate(seen):
        np.testing.assert_array_equal(views.back(of, view), maps)


def test_the_first_views_are_mirror_images():
    image = np.random.default_rng(0).random((1, 2, 3, 3))
    expected = [image, image[:, :, ::-1], image[:, ::-1], image[:, ::-1, ::-1]]
    for view, mirrored in enumerate(expected):
        np.testing.assert_array_equal(views.of_images(image, view), mirrored)


@pytest.mark.parametrize(("number", "size"), [(8, (64, 64)), (4, (48, 64)), (1, (48, 64))])
def test_views_that_there_are(number, size):
    views.check(number, size)


@pytest.mark.parametrize(("number", "size"), [(0, (64, 64)), (9, (64, 64)), (5, (48, 64))])
def test_views_that_there_are_not(number, size):
    with pytest.raises(ValueError, match="Expected 1 to"):
        views.check(number, size)
