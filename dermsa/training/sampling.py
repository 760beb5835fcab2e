"""Which images an epoch shows, and in which order: all as they are, or the diagnoses in balance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SAMPLING = {
    "none": "Every image once an epoch.",
    "over": "Over-sampling: every diagnosis as often as the most frequent one, or as epoch_images "
    "divided by the diagnoses.",
    "under": "Under-sampling: every diagnosis as often as the rarest one, with other images each "
    "epoch.",
    "balanced": "Batches that hold every diagnosis equally often; an epoch shows as many images "
    "as the training part has, or epoch_images.",
}


@dataclass(frozen=True)
class Sampler:
    """Draws the epochs of a training.

    Each is a function of seed and epoch alone, so that a resumed training sees what an unbroken
    one does.

    Attributes:
        rows: Row numbers of the training part, `(n,)`.
        labels: Theirs, int `(n,)`, each below `classes`.
        classes: Number of diagnoses.
        sampling: A key of `SAMPLING`.
        seed: Of all draws.
        epoch_images: Length of an epoch for "over" and "balanced"; 0 for their own.
    """

    rows: np.ndarray
    labels: np.ndarray
    classes: int
    sampling: str = "none"
    seed: int = 0
    epoch_images: int = 0

    @property
    def available(self) -> np.ndarray:
        """Training images per diagnosis, `(classes,)`."""
        return np.bincount(self.labels, minlength=self.classes)

    @property
    def counts(self) -> np.ndarray:
        """Images that an epoch shows, per diagnosis, `(classes,)`."""
        if self.sampling == "none":
            return self.available
        if self.sampling == "under":
            return np.full(self.classes, self.available.min())
        if self.sampling == "over" and not self.epoch_images:
            return np.full(self.classes, self.available.max())
        length = self.epoch_images or len(self.rows)
        return np.array([len(range(label, length, self.classes)) for label in range(self.classes)])

    def order(self, epoch: int) -> np.ndarray:
        """Row numbers as epoch `epoch` shows them, `(counts.sum(),)`.

        Within a diagnosis no image comes again before all others have come.

        Raises:
            ValueError: A diagnosis that is to be balanced has no image.
        """
        random = np.random.default_rng((self.seed, epoch))
        if self.sampling == "none":
            return random.permutation(self.rows)
        if not self.available.all():
            raise ValueError(
                f"The sampling {self.sampling!r} needs images of every diagnosis. Received "
                f"{self.available.tolist()}."
            )
        counts = self.counts
        order = np.empty(counts.sum(), self.rows.dtype)
        # The diagnoses take turns, so that images in sequence hold all of them equally often.
        for label, count in enumerate(counts):
            drawn = _in_rounds(random, self.rows[self.labels == label], count)
            order[label :: self.classes] = drawn
        return order if self.sampling == "balanced" else random.permutation(order)


def _in_rounds(random: np.random.Generator, rows: np.ndarray, count: int) -> np.ndarray:
    rounds = [random.permutation(rows) for _ in range(math.ceil(count / len(rows)))]
    return np.concatenate(rounds)[:count]
