"""The photos, patients and labels that a run trains and is validated on, row by row."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

import numpy as np

from dermsa.datasets import splits
from dermsa.datasets.dataset import Dataset
from dermsa.patient import AgeScale, age_scale_of
from dermsa.training.config import TrainingConfig
from dermsa.training.mixup import mix
from dermsa.training.runs import Run
from dermsa.training.sampling import Sampler


class Examples:
    """Images, patients and labels of a whole data set, served by row number.

    Args:
        images: uint8 `(n, height, width, 3)`, or several such arrays that follow each other.
        patients: float32 `(n, 21)`.
        labels: int `(n,)`.
        targets: What the network shall answer, as shares of the diagnoses, float32
            `(n, classes)`; None for the label alone.
    """

    def __init__(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        patients: np.ndarray,
        labels: np.ndarray,
        targets: np.ndarray | None = None,
    ):
        self.images, self.patients, self.labels, self.targets = images, patients, labels, targets
        self._arrays = [images] if isinstance(images, np.ndarray) else list(images)

    def inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        # Sorted reads of a memory map touch the disk in order.
        order = np.argsort(rows)
        images = np.empty((len(rows), *self._arrays[0].shape[1:]), np.uint8)
        first = 0
        for array in self._arrays:
            chosen = order[(rows[order] >= first) & (rows[order] < first + len(array))]
            images[chosen] = array[rows[chosen] - first]
            first += len(array)
            if isinstance(array.base, mmap.mmap):
                # What was read stays in the system's cache, but not in this process' memory.
                array.base.madvise(mmap.MADV_DONTNEED)
        return {"image": images, "patient": self.patients[rows]}

    def batches(
        self,
        sampler: Sampler,
        batch_size: int,
        epoch: int = 0,
        first: int = 0,
        mixup: float = 0.0,
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """The training batches of an epoch, from number `first` on.

        Images that do not fill the last batch are left out.

        Args:
            mixup: See `TrainingConfig`.

        Yields:
            The inputs, and the truth as `losses.WeightedCrossEntropy` takes it.
        """
        order = sampler.order(epoch)
        targets = self.labels if self.targets is None else self.targets
        if mixup and self.targets is None:
            targets = np.eye(sampler.classes, dtype=np.float32)[self.labels]
        for number in range(first, len(order) // batch_size):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            batch = self.inputs(chosen), targets[chosen]
            if mixup:  # a function of seed, epoch and number: a resumed epoch mixes the same
                batch = mix(*batch, mixup, np.random.default_rng((sampler.seed, epoch, number)))
            yield batch


def split_rows(run: Run, config: TrainingConfig, dataset: Dataset) -> dict[str, np.ndarray]:
    """Row numbers by part; the split is drawn once per run and then read from its folder."""
    if run.split.exists():
        split = splits.read_split(run.split)
    else:
        split = splits.draw(dataset, config.protocol, config.split_seed, config.fold)
        split.write(run.split)
    return rows_of(split, dataset, config.limit, config.seed)


def rows_of(split: splits.Split, dataset: Dataset, limit: int, seed: int) -> dict[str, np.ndarray]:
    """Row numbers by part; so many of each at most, drawn by the seed, where there is a limit."""
    random = np.random.default_rng(seed)
    rows = {part: split.rows(dataset, part) for part in splits.PARTS}
    if limit:
        rows = {part: np.sort(random.permutation(of)[:limit]) for part, of in rows.items()}
    return rows


def training_sampler(config: TrainingConfig, examples: Examples, rows: np.ndarray) -> Sampler:
    return Sampler(
        rows,
        examples.labels[rows],
        len(config.classifier.classes),
        config.sampling,
        config.seed,
        config.epoch_images,
    )


def training_age_scale(dataset: Dataset, train_rows: np.ndarray) -> AgeScale:
    return age_scale_of(dataset.table["age"].to_numpy()[train_rows])
