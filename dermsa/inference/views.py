"""Test-time views: the photo and its mirror images, whose logits are averaged.

A lesion has no up or down, so each view is as good as the other; their mean is steadier than any.
Evidence stays exact: the mean of sums is the sum of means, laid back where it came from.
"""

from __future__ import annotations

import numpy as np

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes (height -2, width -1) that each view mirrors; the first view is the photo itself."""


def of_images(images: np.ndarray, view: int) -> np.ndarray:
    """A view of images `(n, height, width, 3)`."""
    return np.flip(images, [axis - 1 for axis in FLIPS[view]])


def back(maps: np.ndarray, view: int) -> np.ndarray:
    """Lays maps `(..., height, width)` of a view back onto the photo; mirroring undoes itself."""
    return np.flip(maps, FLIPS[view])
