"""HAM10000 (Tschandl, Rosendahl, Kittler 2018): the reader of its official folder.

<root>/ham10000/HAM10000_metadata.csv
<root>/ham10000/HAM10000_images/<image_id>.jpg          (or _part_1 and _part_2)
<root>/ham10000/HAM10000_segmentations/<image_id>_segmentation.png   (optional)
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from dermsa.datasets.dataset import (
    COLUMNS,
    Dataset,
    DatasetError,
    Listing,
    complete,
    files_by_image,
    known_patients,
    read_table,
)
from dermsa.taxonomy import HAM10000_CLASSES

METADATA_NAMES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
IMAGE_FOLDERS = ("HAM10000_images", "HAM10000_images_part_1", "HAM10000_images_part_2")
MASK_FOLDERS = ("HAM10000_segmentations", "HAM10000_segmentations_lesion_tschandl")


def read(root: str | os.PathLike) -> Dataset:
    """Reads the metadata and finds the images.

    Args:
        root: The folder that holds `ham10000/`, or that folder itself.

    Raises:
        DatasetError: The folder, its metadata or its images are missing or not as expected.
    """
    return complete("ham10000", HAM10000_CLASSES, listing(root))


def listing(root: str | os.PathLike) -> Listing:
    """What is there, whether complete or not.

    Raises:
        DatasetError: The folder or its metadata are missing or not as expected.
    """
    folder = _folder(Path(root))
    masks = {}
    for name in MASK_FOLDERS:
        masks |= files_by_image(folder / name, "_segmentation.png")
    return Listing(
        "HAM10000",
        folder,
        folder / IMAGE_FOLDERS[0],
        _metadata(folder),
        image_files(root),
        masks,
    )


def image_files(root: str | os.PathLike) -> dict[str, str]:
    """Paths of the images that are there, by image id."""
    files = {}
    for name in IMAGE_FOLDERS:
        files |= files_by_image(_folder(Path(root)) / name, ".jpg")
    return files


def _folder(root: Path) -> Path:
    for folder in (root / "ham10000", root):
        if any((folder / name).is_file() for name in METADATA_NAMES):
            return folder
    raise DatasetError(
        f"No HAM10000 in {root}: expected ham10000/{METADATA_NAMES[0]} there. Download it from "
        "https://doi.org/10.7910/DVN/DBW86T and set DERMSA_DATA to the folder that holds "
        "ham10000/."
    )


def _metadata(folder: Path) -> pd.DataFrame:
    path = next(folder / name for name in METADATA_NAMES if (folder / name).is_file())
    table = known_patients(read_table(path, COLUMNS, optional=("dataset",)))
    table = table.rename(columns={"dataset": "source"})
    strange = sorted(map(str, set(table["dx"]) - set(HAM10000_CLASSES)))
    if strange:
        raise DatasetError(
            f"{path} has diagnoses that HAM10000 does not have: {', '.join(strange)}."
        )
    return table
