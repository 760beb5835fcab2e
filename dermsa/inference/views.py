"""Test-time views: the photo, its mirror images and quarter turns, whose logits are averaged.

A lesion has no up or down, so each view is as good as the other; their mean is steadier than any.
Evidence stays exact: the mean of sums is the sum of means, laid back where it came from.
"""

from __future__ import annotations

import numpy as np

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes (height -2, width -1) that each view mirrors; the first view is the photo itself."""
MOST = 2 * len(FLIPS)
"""The second half are the first ones of the photo after a quarter turn, which takes a square."""


def most_of(size: tuple[int, int]) -> int:
    """How many views there are of what a network sees, by its height and width."""
    return MOST if size[0] == size[1] else len(FLIPS)


def check(number: int, size: tuple[int, int]) -> None:
    """
    Args:
        number: How many of the views, from the first on.
        size: Height and width of what a network sees.

    Raises:
        ValueError: There are not so many of this size.
    """
    most = most_of(size)
    if not 1 <= number <= most:
        raise ValueError(
            f"Expected 1 to {most} views of {size[0]} x {size[1]} pixels. Received: {number}"
        )


def of_images(images: np.ndarray, view: int) -> np.ndarray:
    """A view of images `(n, height, width, 3)`."""
    turn, mirrored = divmod(view, len(FLIPS))
    turned = np.rot90(images, turn, axes=(-3, -2))
    return np.flip(turned, [axis - 1 for axis in FLIPS[mirrored]])


def back(maps: np.ndarray, view: int) -> np.ndarray:
    """Lays maps `(..., height, width)` of a view back onto the photo."""
    turn, mirrored = divmod(view, len(FLIPS))
    return np.rot90(np.flip(maps, FLIPS[mirrored]), -turn, axes=(-2, -1))
