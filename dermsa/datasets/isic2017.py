"""ISIC 2017, part 3 (Codella et al. 2017): the reader of its official training folder.

<root>/isic2017/ISIC-2017_Training_Data/<image_id>.jpg
<root>/isic2017/ISIC-2017_Training_Data_metadata.csv      (or in the folder of images)
<root>/isic2017/ISIC-2017_Training_Part3_GroundTruth.csv
<root>/isic2017/ISIC-2017_Training_Part1_GroundTruth/<image_id>_segmentation.png   (optional)

The truth has a column for melanoma and one for seborrheic keratosis; neither means a benign nevus.
Nothing says which photos show the same lesion, so that each counts as a lesion of its own, and
where on the body it was is unknown.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from dermsa.datasets.dataset import (
    DatasetError,
    Listing,
    files_by_image,
    known_patients,
    read_table,
)
from dermsa.taxonomy import ISIC2017_CLASSES, UNKNOWN

IMAGE_FOLDER = "ISIC-2017_Training_Data"
MASK_FOLDER = "ISIC-2017_Training_Part1_GroundTruth"
METADATA = "ISIC-2017_Training_Data_metadata.csv"
TRUTH = "ISIC-2017_Training_Part3_GroundTruth.csv"
NEVUS_OR_KERATOSIS = ("nv", "sk")


def listing(
    root: str | os.PathLike, classes: tuple[str, ...] = ISIC2017_CLASSES, title: str = "ISIC 2017"
) -> Listing:
    """What is there, whether complete or not.

    Args:
        root: The folder that holds `isic2017/`, or that folder itself.
        classes: The diagnoses to keep.
        title: Of the selection.

    Raises:
        DatasetError: The folder or one of its tables is missing or not as expected.
    """
    folder = _folder(Path(root))
    metadata_path = next(
        (path for path in (folder / METADATA, folder / IMAGE_FOLDER / METADATA) if path.is_file()),
        folder / METADATA,
    )
    metadata = read_table(metadata_path, ("image_id", "age_approximate", "sex"))
    truth = _truth(folder / TRUTH)
    table = truth.merge(metadata, on="image_id").rename(columns={"age_approximate": "age"})
    table = table.assign(lesion_id=table["image_id"], dx_type=UNKNOWN, localization=UNKNOWN)
    others = set(table.loc[~table["dx"].isin(classes), "image_id"])
    table = table[table["dx"].isin(classes)].reset_index(drop=True)

    def kept(files: dict[str, str]) -> dict[str, str]:
        return {image_id: path for image_id, path in files.items() if image_id not in others}

    return Listing(
        title,
        folder,
        folder / IMAGE_FOLDER,
        known_patients(table),
        kept(files_by_image(folder / IMAGE_FOLDER, ".jpg")),
        kept(files_by_image(folder / MASK_FOLDER, "_segmentation.png")),
        _differences(truth, folder / TRUTH, metadata, metadata_path),
    )


def _folder(root: Path) -> Path:
    for folder in (root / "isic2017", root):
        if (folder / TRUTH).is_file():
            return folder
    raise DatasetError(
        f"No ISIC 2017 in {root}: expected isic2017/{TRUTH} there. Download the training data and "
        "the ground truth of part 3 from https://challenge.isic-archive.com/data/#2017 and set "
        "DERMSA_DATA to the folder that holds isic2017/."
    )


def _truth(path: Path) -> pd.DataFrame:
    """`image_id` and `dx` of every row."""
    table = read_table(path, ("image_id", "melanoma", "seborrheic_keratosis"))
    findings = table[["melanoma", "seborrheic_keratosis"]]
    wrong = ~findings.isin((0, 1)).all(axis=1) | (findings.sum(axis=1, numeric_only=True) > 1)
    if wrong.any():
        raise DatasetError(
            f"{path} has {int(wrong.sum())} rows that are not one diagnosis (0 or 1 in each "
            f"column, at most one 1), for example {table.loc[wrong, 'image_id'].iloc[0]}."
        )
    dx = pd.Series("nv", table.index)
    dx[table["melanoma"] == 1] = "mel"
    dx[table["seborrheic_keratosis"] == 1] = "sk"
    return table[["image_id"]].assign(dx=dx)


def _differences(
    truth: pd.DataFrame, truth_path: Path, metadata: pd.DataFrame, metadata_path: Path
) -> tuple[str, ...]:
    """A sentence for each of the two tables that lacks images of the other."""
    truth_ids, metadata_ids = set(truth["image_id"]), set(metadata["image_id"])
    return tuple(
        f"{path.name} lacks {len(lacking)} images of {other.name}, for example {min(lacking)}: "
        "these two files do not belong together."
        for path, other, lacking in (
            (truth_path, metadata_path, metadata_ids - truth_ids),
            (metadata_path, truth_path, truth_ids - metadata_ids),
        )
        if lacking
    )
