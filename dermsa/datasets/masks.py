"""Lesion masks: which pixels of a photo are lesion."""

from __future__ import annotations

import os

import cv2
import numpy as np

from dermsa.datasets.dataset import DatasetError

MAX_STRETCH = 0.02  # how far the two aspect ratios may differ, by rounding to whole pixels


def load(path: str | os.PathLike, photo_size: tuple[int, int]) -> np.ndarray:
    """Reads the mask of a photo.

    Args:
        path: A picture of two values, the higher one for lesion.
        photo_size: Height and width of the photo in pixels.

    Returns:
        bool `(height, width)` of the photo, True where there is lesion.

    Raises:
        DatasetError: The file cannot be read, is no mask, marks nothing or has another shape than
            the photo; the message names the file.
    """
    mask = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED) if os.path.isfile(path) else None
    if mask is None:
        raise DatasetError(f"{path} is missing or no readable picture.")
    if mask.ndim == 3 and (mask == mask[..., :1]).all():
        mask = mask[..., 0]
    if mask.ndim != 2 or len(np.unique(mask)) > 2:
        raise DatasetError(f"{path} is not a mask: expected a picture of two values.")
    (height, width), (photo_height, photo_width) = mask.shape, photo_size
    stretch = width * photo_height / (height * photo_width)
    if abs(stretch - 1) > MAX_STRETCH:
        raise DatasetError(
            f"{path} does not fit its photo: {width} x {height} pixels is another shape than "
            f"{photo_width} x {photo_height}."
        )
    if not mask.any():
        raise DatasetError(f"{path} marks no pixel as lesion.")
    lesion = (mask == mask.max()).astype(np.uint8)
    return cv2.resize(lesion, (photo_width, photo_height), interpolation=cv2.INTER_NEAREST) > 0
