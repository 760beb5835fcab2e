"""HAM10000 (Tschandl, Rosendahl, Kittler 2018): the reader of its official folder.

<root>/ham10000/HAM10000_metadata.csv
<root>/ham10000/HAM10000_images/<image_id>.jpg          (or _part_1 and _part_2)
<root>/ham10000/HAM10000_segmentations/<image_id>_segmentation.png   (optional)
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pandas as pd

from dermsa.datasets.dataset import Dataset, DatasetError
from dermsa.taxonomy import HAM10000_CLASSES, LOCALIZATIONS, SEXES, UNKNOWN

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
METADATA_NAMES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
IMAGE_FOLDERS = ("HAM10000_images", "HAM10000_images_part_1", "HAM10000_images_part_2")


def read(root: str | os.PathLike) -> Dataset:
    """Reads the metadata and finds the images.

    Args:
        root: The folder that holds `ham10000/`, or that folder itself.

    Raises:
        DatasetError: The folder, its metadata or its images are missing or not as expected.
    """
    folder = _folder(Path(root))
    table = _metadata(folder)
    table["path"] = table["image_id"].map(image_files(root))
    missing = table["path"].isna()
    if missing.all():
        raise DatasetError(
            f"No image of HAM10000 was found in {folder}. Put the JPEG files into "
            f"{folder / IMAGE_FOLDERS[0]}."
        )
    if missing.any():
        raise DatasetError(
            f"{int(missing.sum())} of {len(table)} images are missing in {folder}, for example "
            f"{table.loc[missing, 'image_id'].iloc[0]}.jpg. Run `python -m dermsa data check` "
            "for the list."
        )
    return Dataset("ham10000", HAM10000_CLASSES, table)


def image_files(root: str | os.PathLike) -> dict[str, str]:
    """Paths of the images that are there, by image id."""
    return {
        path.stem: str(path)
        for name in IMAGE_FOLDERS
        for path in (_folder(Path(root)) / name).glob("*.jpg")
    }


def mask_path(root: str | os.PathLike, image_id: str) -> Path:
    """Where the lesion mask of an image lies (it may not be there)."""
    return _folder(Path(root)) / "HAM10000_segmentations" / f"{image_id}_segmentation.png"


def read_metadata(root: str | os.PathLike) -> pd.DataFrame:
    """The validated metadata alone, without looking for images; see `read`."""
    return _metadata(_folder(Path(root)))


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
    try:
        table = pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
    except (ValueError, csv.Error, OSError) as error:
        raise DatasetError(f"{path} is not a readable table: {error}") from None
    lacking = [name for name in COLUMNS if name not in table.columns]
    if lacking:
        raise DatasetError(f"{path} lacks the column(s) {', '.join(lacking)}.")
    table = table[list(COLUMNS)].copy()
    table["age"] = pd.to_numeric(table["age"], errors="coerce")
    for name, values in (("sex", SEXES), ("localization", LOCALIZATIONS)):
        table[name] = table[name].fillna(UNKNOWN).where(table[name].isin(values), UNKNOWN)
    strange = sorted(map(str, set(table["dx"]) - set(HAM10000_CLASSES)))
    if strange:
        raise DatasetError(
            f"{path} has diagnoses that HAM10000 does not have: {', '.join(strange)}."
        )
    if table["image_id"].duplicated().any():
        repeated = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise DatasetError(f"{path} lists the image {repeated} twice.")
    return table.sort_values("image_id", ignore_index=True)
