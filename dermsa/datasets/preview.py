"""What an augmentation recipe does to one photo, as a sheet of pictures."""

from __future__ import annotations

import math

import numpy as np

from dermsa import images

GAP = 6  # pixels between pictures
PAPER = 255
FRAME = (0, 89, 138)  # around the photo as it is


def variants(
    rgb: np.ndarray,
    recipe: str,
    strength: float = 1.0,
    count: int = 8,
    seed: int = 0,
    size: tuple[int, int] = (224, 224),
) -> np.ndarray:
    """A photo as a network in training would meet it.

    Args:
        rgb: uint8 `(height, width, 3)`.
        recipe: A name of `recipes.RECIPES`.
        strength: Factor on all strengths of the recipe.
        count: How many variants are drawn.
        seed: Of the draws.
        size: Height and width at which the network sees it.

    Returns:
        uint8 `(1 + count, *size, 3)`, the photo as it is first.

    Raises:
        ValueError: No such recipe, a negative strength, or a count or size out of range.
    """
    if not 1 <= count <= 63:
        raise ValueError(f"Expected 1 to 63 variants. Received: {count}")
    if not 32 <= min(size) <= max(size) <= 1024:
        raise ValueError(f"Expected a size of 32 to 1024 pixels. Received: {min(size)}")
    from dermsa.datasets.augmentation import Augment  # after what needs no Keras

    augment = Augment(recipe, seed, strength)
    photo = images.to_model_input(rgb, size)
    drawn = np.asarray(augment(np.repeat(photo[None], count, axis=0), training=True))
    return np.concatenate([photo[None], np.rint(drawn).astype(np.uint8)])


def contact_sheet(photos: np.ndarray) -> np.ndarray:
    """Photos side by side, in as many columns as rows or one more; the first has a frame.

    Args:
        photos: uint8 `(n, height, width, 3)`.

    Returns:
        uint8 `(sheet height, sheet width, 3)`.
    """
    count, height, width, _ = photos.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    down, right = height + GAP, width + GAP
    sheet = np.full((rows * down + GAP, columns * right + GAP, 3), PAPER, np.uint8)
    sheet[: height + 2 * GAP, : width + 2 * GAP] = FRAME
    for i, photo in enumerate(photos):
        top, left = (i // columns) * down + GAP, (i % columns) * right + GAP
        sheet[top : top + height, left : left + width] = photo
    return sheet
