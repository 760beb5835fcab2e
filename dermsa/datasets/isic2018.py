"""ISIC 2018, task 3: HAM10000 to train on, and the official test images.

HAM10000 as in `dermsa.datasets.ham10000`, and

<root>/isic2018/ISIC2018_Task3_Test_Input/<image_id>.jpg        (or ISIC2018_Task3_Test_Images)
<root>/isic2018/ISIC2018_Task3_Test_GroundTruth.csv             (or in a folder of that name)

The ground truth comes in two forms: that of the challenge has one column a diagnosis (MEL, NV,
...) and says nothing of patients and lesions, so that each photo counts as a lesion of its own;
that of the Harvard Dataverse has the columns of HAM10000's metadata.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa.datasets import ham10000
from dermsa.datasets.dataset import (
    COLUMNS,
    DatasetError,
    Listing,
    files_by_image,
    known_patients,
    read_table,
)
from dermsa.taxonomy import HAM10000_CLASSES, UNKNOWN

IMAGE_FOLDERS = ("ISIC2018_Task3_Test_Input", "ISIC2018_Task3_Test_Images")
TRUTH = "ISIC2018_Task3_Test_GroundTruth"
WHAT_TO_PLACE = (
    f"Download the test input and the test ground truth of task 3 from "
    f"https://challenge.isic-archive.com/data/#2018 (or the Harvard Dataverse, "
    f"https://doi.org/10.7910/DVN/DBW86T), and put the images into isic2018/{IMAGE_FOLDERS[0]}/ "
    f"and the table to isic2018/{TRUTH}.csv in the data folder, beside ham10000/."
)


def listing(root: str | os.PathLike) -> Listing:
    """What is there, whether complete or not; `official_part` is "train" (HAM10000) or "test".

    Raises:
        DatasetError: HAM10000, the folder or its ground truth is missing or not as expected.
    """
    training = ham10000.listing(root)
    folder, truth = _folder(Path(root))
    table = pd.concat(
        [
            training.table.assign(official_part="train"),
            known_patients(_test_table(truth)).assign(official_part="test"),
        ]
    )
    images = {}
    for name in IMAGE_FOLDERS:
        images |= files_by_image(folder / name, ".jpg")
    twice = table.loc[table["image_id"].duplicated(), "image_id"]
    if len(twice):
        raise DatasetError(
            f"{truth} lists {len(twice)} images of HAM10000, for example {twice.iloc[0]}: it is "
            "not the ground truth of the test images."
        )
    if not images:
        raise DatasetError(f"No test image of ISIC 2018 is in {folder}. {WHAT_TO_PLACE}")
    return Listing(
        "ISIC 2018",
        folder,
        folder / IMAGE_FOLDERS[0],
        table.sort_values("image_id", ignore_index=True),
        training.images | images,
        training.masks,
    )


def _folder(root: Path) -> tuple[Path, Path]:
    """The folder of the test images, and the file of their ground truth."""
    for folder in (root / "isic2018", root.parent / "isic2018"):
        for path in (folder / f"{TRUTH}.csv", folder / TRUTH / f"{TRUTH}.csv"):
            if path.is_file():
                return folder, path
    raise DatasetError(
        f"The official test images of ISIC 2018 are not in {root / 'isic2018'}. {WHAT_TO_PLACE}"
    )


def _test_table(path: Path) -> pd.DataFrame:
    """The columns of HAM10000's metadata, from either form of the ground truth."""
    codes = tuple(code.upper() for code in HAM10000_CLASSES)
    if "dx" in path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]:
        table = read_table(path, COLUMNS)
        strange = sorted(map(str, set(table["dx"]) - set(HAM10000_CLASSES)))
        if strange:
            raise DatasetError(f"{path} has diagnoses outside the task: {', '.join(strange)}.")
        return table
    table = read_table(path, ("image", *codes), image_column="image")
    truth = table[list(codes)].to_numpy()
    wrong = ~(np.isin(truth, (0, 1)).all(axis=1) & ((truth == 1).sum(axis=1) == 1))
    if wrong.any():
        raise DatasetError(
            f"{path} has {int(wrong.sum())} rows that are not one diagnosis (a single 1), for "
            f"example {table.loc[wrong, 'image_id'].iloc[0]}."
        )
    return pd.DataFrame(
        {
            "lesion_id": table["image_id"],
            "image_id": table["image_id"],
            "dx": np.array(HAM10000_CLASSES)[truth.argmax(axis=1)],
            "dx_type": UNKNOWN,
            "age": np.nan,
            "sex": UNKNOWN,
            "localization": UNKNOWN,
        }
    )
