"""Which images an epoch shows, and in which order: all as they are, or the diagnoses in balance.

Everything is a function of seed and epoch alone, so that a resumed training sees what an unbroken
one does.
"""

from __future__ import annotations

import math

import numpy as np

SAMPLING = {
    "none": "Every image once an epoch.",
    "over": "Over-sampling: every diagnosis as often as the most frequent one; an epoch has C "
    "times its images.",
    "under": "Under-sampling: every diagnosis as often as the rarest one, with other images "
    "each epoch; an epoch has C times its images.",
    "balanced": "Batches that hold every diagnosis equally often; an epoch has as many images "
    "as the training part.",
}


def epoch_length(counts: np.ndarray, sampling: str, epoch_images: int = 0) -> int:
    """Images that an epoch shows; its steps are this over the batch size, rounded down.

    Args:
        counts: Training images per diagnosis, `(classes,)`.
        sampling: A key of `SAMPLING`.
        epoch_images: Asked for with "over" or "balanced"; 0 for their own length.
    """
    counts = np.asarray(counts)
    if sampling in ("over", "under"):
        per_class = counts.max() if sampling == "over" else counts.min()
        return len(counts) * int(epoch_images / len(counts) if epoch_images else per_class)
    return epoch_images or int(counts.sum())


def epoch_order(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    sampling: str,
    seed: int,
    epoch: int,
    epoch_images: int = 0,
) -> np.ndarray:
    """Row numbers in the order in which an epoch shows them.

    Within a diagnosis no image comes a second time before all others have come once.

    Args:
        rows: Of the training part, `(n,)`.
        labels: Of these rows, `(n,)`, each below `classes`.
        classes: Number of diagnoses.
        sampling: A key of `SAMPLING`.
        seed, epoch: What the draw depends on.
        epoch_images: See `epoch_length`.

    Returns:
        `(epoch_length,)`.

    Raises:
        ValueError: A diagnosis to be balanced has no image.
    """
    random = np.random.default_rng((seed, epoch))
    if sampling == "none":
        return random.permutation(rows)
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise ValueError(
            f"Sampling {sampling!r} needs images of every diagnosis. Received counts: {counts}"
        )
    length = epoch_length(counts, sampling, epoch_images)
    order = np.empty(length, np.asarray(rows).dtype)
    # The diagnoses take turns, so that any run of C images has one of each.
    for label in range(classes):
        turns = len(order[label::classes])
        order[label::classes] = _drawn(random, rows[labels == label], turns)
    return order if sampling == "balanced" else random.permutation(order)


def _drawn(random: np.random.Generator, rows: np.ndarray, count: int) -> np.ndarray:
    rounds = [random.permutation(rows) for _ in range(math.ceil(count / len(rows)))]
    return np.concatenate(rounds)[:count]
