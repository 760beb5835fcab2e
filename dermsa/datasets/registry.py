"""The data sets by name. A new one is a record here: code, command line, pages and tests follow.

>>> from dermsa.datasets import registry
>>> registry.DATASETS["isic2017"].classes
('mel', 'nv', 'sk')
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dermsa import taxonomy
from dermsa.datasets import ham10000, isic2017, isic2018
from dermsa.datasets.dataset import Dataset, Listing, complete, require_root

NON_COMMERCIAL = "CC BY-NC 4.0: for non-commercial use, also of models trained on them"


@dataclass(frozen=True)
class DatasetRecord:
    """One data set.

    Attributes:
        name: Its key, on the command line and in cards.
        title: One line for lists.
        classes: Codes of its diagnoses, in the order of every probability vector.
        licence: Of its images.
        source: Whom to cite and where it is downloaded.
        listing: Reads its folder below a root; raises `DatasetError` with what to place where.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    source: str
    listing: Callable[[Path], Listing]

    @property
    def malignant(self) -> frozenset[str]:
        """The codes of `classes` that are malignant; may be none."""
        return taxonomy.MALIGNANT & set(self.classes)


DATASETS: dict[str, DatasetRecord] = {
    record.name: record
    for record in (
        DatasetRecord(
            "ham10000",
            "HAM10000: 10,015 photos of 7,470 lesions, seven diagnoses",
            taxonomy.HAM10000_CLASSES,
            NON_COMMERCIAL,
            "Tschandl, Rosendahl, Kittler 2018, https://doi.org/10.7910/DVN/DBW86T",
            ham10000.listing,
        ),
        DatasetRecord(
            "isic2017",
            "ISIC 2017 part 3: 2,000 photos; melanoma, nevus or seborrheic keratosis",
            taxonomy.ISIC2017_CLASSES,
            "CC-0",
            "Codella et al. 2017, https://challenge.isic-archive.com/data/#2017",
            isic2017.listing,
        ),
        DatasetRecord(
            "isic2017-nv-sk",
            "ISIC 2017 part 3 without melanomas: nevus or seborrheic keratosis (Datta et al. 2021)",
            isic2017.NEVUS_OR_KERATOSIS,
            "CC-0",
            "Codella et al. 2017, https://challenge.isic-archive.com/data/#2017",
            partial(
                isic2017.listing,
                classes=isic2017.NEVUS_OR_KERATOSIS,
                title="ISIC 2017 without melanomas",
            ),
        ),
        DatasetRecord(
            "isic2018",
            "ISIC 2018 task 3: HAM10000 and the 1,511 official test photos",
            taxonomy.HAM10000_CLASSES,
            NON_COMMERCIAL,
            "Codella et al. 2019, https://challenge.isic-archive.com/data/#2018",
            isic2018.listing,
        ),
    )
}


def record(name: str) -> DatasetRecord:
    """The record of a data set.

    Raises:
        ValueError: No such name; the message offers the nearest.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name, DATASETS, n=3) or list(DATASETS)
    raise ValueError(f"Unknown data set {name!r}. Did you mean: {', '.join(near)}?")


def read(name: str, root: str | os.PathLike | None = None) -> Dataset:
    """Reads a data set and finds its images.

    Args:
        name: A key of `DATASETS`.
        root: The folder that holds the data sets' folders; None for `data_root()`.

    Raises:
        ValueError: No such name.
        DatasetError: The data are missing, incomplete or not as expected.
    """
    found = record(name)
    return complete(name, found.classes, found.listing(require_root(root)))


def listed(name: str, root: str | os.PathLike | None = None) -> Dataset:
    """The table of a data set alone, without `path`: enough to draw splits.

    Raises:
        ValueError: No such name.
        DatasetError: A table is missing or not as expected.
    """
    found = record(name)
    return Dataset(name, found.classes, found.listing(require_root(root)).table)
