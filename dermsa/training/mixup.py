"""Mixup: photos, patients and diagnoses of a batch, mixed two by two (Zhang et al. 2018,
arXiv:1710.09412), so that what lies between two photos is answered by what lies between their
diagnoses."""

from __future__ import annotations

import numpy as np

PARTS = 256
"""Shares are so many parts, so that pixels are mixed in integers, exactly as their labels are."""


def mix(
    inputs: dict[str, np.ndarray],
    targets: np.ndarray,
    alpha: float,
    random: np.random.Generator,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mixes each example of a batch with another one of it, each pair in a share of its own.

    It comes before augmentation: both photos of a pair are turned alike, which leaves their
    mixture what it is.

    Args:
        inputs: "image" uint8 `(batch, height, width, 3)`, "patient" float32 `(batch, 21)`.
        targets: Shares of the diagnoses, float32 `(batch, classes)`.
        alpha: Of the symmetric Beta distribution of the shares, above 0; at 1 every share is as
            likely as another, below it most pairs are nearly one photo.
        random: Draws partners and shares.

    Returns:
        The same, mixed; float32 where it was.
    """
    partner = random.permutation(len(targets))
    parts = np.rint(PARTS * random.beta(alpha, alpha, len(targets))).astype(np.uint16)
    share = (parts / PARTS).astype(np.float32)[:, None]
    image, patient = inputs["image"], inputs["patient"]
    own = parts[:, None, None, None]
    pixels = image * own + image[partner] * (PARTS - own) + PARTS // 2  # at most 65,408
    mixed = {
        "image": (pixels // PARTS).astype(np.uint8),
        "patient": patient * share + patient[partner] * (1 - share),
    }
    return mixed, targets * share + targets[partner] * (1 - share)
