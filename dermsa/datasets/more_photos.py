"""Photos of another data set that train beside a data set's own.

    more = read("isic2017", dataset, root)      # its photos, under the diagnoses of `dataset`
    both = joined(dataset, more)                # `dataset`'s rows first, as they were

They only train: parts, calibration and every figure are of the data set's own photos. A photo that
shows a lesion of the data set, too, is left out, or a network could be tested on what it has seen.

Where one half of the other data set trains, the rest of it tells what that gave on its source.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from dermsa.datasets import cache, registry, twins
from dermsa.datasets.dataset import Dataset, load_photo
from dermsa.files import write_atomically

MORE_PHOTOS = {
    "none": "The data set's own photos alone.",
    "isic2017": "Those of ISIC 2017 part 3, too: melanomas, nevi and, as benign keratoses, "
    "seborrheic keratoses.",
    "isic2017-half": "Half of these; the rest stay unseen, to tell what the half gave there.",
}
ELSEWHERE = {
    "isic2017": "All photos of ISIC 2017 part 3.",
    "isic2017-rest": "Those that isic2017-half leaves.",
}
"""What a model can be asked about that none of it has trained."""

DIAGNOSES = {"isic2017": {"mel": "mel", "nv": "nv", "sk": "bkl"}}
"""What the diagnoses of the other data set are called in HAM10000."""

TOGETHER = 50
"""So many numbers in a row go to the same half: neighbours may show the same lesion or patient."""

SEVEN = ("ham10000", "isic2018")
"""The data sets that they can stand beside."""


def read(
    name: str,
    dataset: Dataset,
    root: str | os.PathLike | None = None,
    report: Callable[[float], None] = lambda done: None,
) -> Dataset:
    """The photos of a data set that show no lesion of another, under the other's diagnoses.

    All photos are compared once (a minute for those of ISIC 2017 and HAM10000); what was found is
    kept in the cache folder until a file changes. Of "isic2017-rest" those are left out, too, that
    show a lesion of "isic2017-half".

    Args:
        name: A key of `MORE_PHOTOS`, not "none", or of `ELSEWHERE`.
        dataset: Beside whose photos they shall train.
        root: The folder that holds the data sets' folders; None for `data_root()`.
        report: Called while photos are compared, with the share that is done.

    Raises:
        DatasetError: The data are missing or not as expected.
    """
    other = registry.read(source(name), root)
    seen = _of_the_same_lesions(other, dataset, report)
    found = other.subset(_taken(name, other) & ~other.table["image_id"].isin(seen))
    if name == f"{source(name)}-rest":  # it tells what the half gave: no lesion may be in both
        half = other.subset(_taken(f"{source(name)}-half", other))
        seen = _of_the_same_lesions(found, half, report)
        found = found.subset(~found.table["image_id"].isin(seen))
    return _renamed(found, dataset)


def listed(name: str, dataset: Dataset, root: str | os.PathLike | None = None) -> Dataset:
    """The same from the tables alone, with what `read` leaves out: enough to count.

    Raises:
        DatasetError: A table is missing or not as expected.
    """
    other = registry.listed(source(name), root)
    return _renamed(other, dataset).subset(_taken(name, other))


def source(name: str) -> str:
    """The data set that a key of `MORE_PHOTOS` or of `ELSEWHERE` takes its photos from."""
    return name.removesuffix("-half").removesuffix("-rest")


def overlap(name: str, another: str) -> bool:
    """Whether two such keys have photos in common."""
    return source(name) == source(another) and {name, another} != {
        f"{source(name)}-half",
        f"{source(name)}-rest",
    }


def _taken(name: str, other: Dataset) -> np.ndarray:
    """Which rows of the whole data set the key names, by the numbers in the images' ids."""
    if name == source(name):
        return np.ones(len(other.table), bool)
    numbers = other.table["image_id"].str.extract(r"(\d+)", expand=False).astype(int)
    odd = (numbers // TOGETHER % 2 == 1).to_numpy()
    return ~odd if name.endswith("-half") else odd


def _renamed(other: Dataset, dataset: Dataset) -> Dataset:
    table = other.table.assign(dx=other.table["dx"].map(DIAGNOSES[other.name]))
    return Dataset(other.name, dataset.classes, table)


def joined(dataset: Dataset, more: Dataset) -> Dataset:
    """Both tables below each other: rows of `dataset` keep their numbers."""
    table = pd.concat([dataset.table, more.table], ignore_index=True)
    return Dataset(dataset.name, dataset.classes, table)


def _of_the_same_lesions(
    other: Dataset, dataset: Dataset, report: Callable[[float], None]
) -> list[str]:
    """The image ids of `other` that show a lesion of `dataset`, which has other photos."""
    about = f"{other.name}-{cache.fingerprint(other)}-{cache.fingerprint(dataset)}"
    kept = cache.cache_folder() / f"same-lesions-{twins.FORMAT}-{about}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    ids = pd.concat([dataset.table["image_id"], other.table["image_id"]]).tolist()
    paths = pd.concat([dataset.table["path"], other.table["path"]]).tolist()
    # As if each data set showed one lesion: pairs within one are of no interest here.
    sides = [0] * len(dataset.table) + [1] * len(other.table)
    prints = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda path: twins.fingerprint(load_photo(path)), paths):
            prints.append(found)
            report(len(prints) / len(paths))
    pairs = twins.find_twins(prints, sides, progress=False)
    seen = sorted({ids[pair.second] for pair in pairs})
    write_atomically(kept, json.dumps(seen).encode())
    return seen


def by_class(more: Dataset) -> dict[str, int]:
    """How many photos there are of each diagnosis."""
    counts = np.bincount(more.labels(), minlength=len(more.classes))
    return dict(zip(more.classes, counts.tolist(), strict=True))
