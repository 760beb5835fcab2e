"""Lesion masks: read at the size of their photo, or refused by name."""

import cv2
import numpy as np
import pytest

from dermsa.datasets import masks
from dermsa.datasets.dataset import DatasetError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "I1_segmentation.png"


def test_a_mask_is_brought_to_the_size_of_its_photo(path):
    lesion = np.zeros((30, 40), np.uint8)
    lesion[10:20, 5:25] = 255
    cv2.imwrite(str(path), lesion)
    expected = np.zeros((60, 80), bool)
    expected[20:40, 10:50] = True
    np.testing.assert_array_equal(masks.load(path, (60, 80)), expected)
    cv2.imwrite(str(path), np.dstack([lesion] * 3))
    np.testing.assert_array_equal(masks.load(path, (60, 80)), expected)


@pytest.mark.parametrize("background, lesion", [(0, 1), (128, 255), (254, 255)])
def test_the_higher_of_two_values_is_lesion(path, background, lesion):
    mask = np.full((30, 40), background, np.uint8)
    mask[10:20, 5:25] = lesion
    cv2.imwrite(str(path), mask)
    np.testing.assert_array_equal(masks.load(path, (30, 40)), mask == lesion)


def test_a_photo_that_is_all_lesion(path):
    cv2.imwrite(str(path), np.full((30, 40), 255, np.uint8))
    assert masks.load(path, (30, 40)).all()


@pytest.mark.parametrize(
    "picture, message",
    [
        (np.eye(40, dtype=np.uint8)[:40], "does not fit its photo: 40 x 40 .* 80 x 60"),
        (np.zeros((30, 40), np.uint8), "marks no pixel"),
        (np.arange(1200, dtype=np.uint8).reshape(30, 40), "is not a mask"),
        (np.random.default_rng(0).integers(0, 2, (30, 40, 3), np.uint8), "is not a mask"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(path, picture, message):
    cv2.imwrite(str(path), picture)
    with pytest.raises(DatasetError, match=f"I1_segmentation.png {message}"):
        masks.load(path, (60, 80))


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_mask_that_is_missing_or_damaged_is_refused_by_name(path, content):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match="I1_segmentation.png is missing or no readable"):
        masks.load(path, (60, 80))
