"""A labelled set of lesion photos, whatever it was read from."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa import images, taxonomy
from dermsa.patient import MAX_AGE, AgeScale, Patient

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


class DatasetError(ValueError):
    """A data set that is missing or not as expected; the message says how to mend it."""


@dataclass(frozen=True)
class Dataset:
    """Images with their truth and patients.

    Attributes:
        name: What it is called in cards and reports; a key of `registry.DATASETS`.
        classes: Codes of the diagnoses, in the order of every probability vector.
        table: One row an image, sorted by `image_id`: `image_id`, `lesion_id`, `dx` (a code of
            `classes`), `dx_type`, `age` (NaN where unknown), `sex`, `localization`, `path`; where
            the publishers of the data name it `source`, whose collection the image is from, and
            where they divided the data `official_part`.
    """

    name: str
    classes: tuple[str, ...]
    table: pd.DataFrame

    @property
    def malignant(self) -> frozenset[str]:
        """The codes of `classes` that are malignant; may be none."""
        return taxonomy.MALIGNANT & set(self.classes)

    def labels(self) -> np.ndarray:
        """Indices into `classes`, int64 `(n,)`."""
        return self.table["dx"].map({code: i for i, code in enumerate(self.classes)}).to_numpy()

    def patients(self) -> list[Patient]:
        return [
            Patient(None if np.isnan(row.age) else row.age, row.sex, row.localization)
            for row in self.table[["age", "sex", "localization"]].itertuples()
        ]

    def patient_vectors(self, age_scale: AgeScale) -> np.ndarray:
        """Encoded patients, float32 `(n, 21)`."""
        return np.stack([patient.encode(age_scale) for patient in self.patients()])

    def subset(self, rows: np.ndarray) -> Dataset:
        """The data set with the given rows (indices or booleans) only."""
        return Dataset(self.name, self.classes, self.table.loc[rows].reset_index(drop=True))


@dataclass(frozen=True)
class Listing:
    """What the files of a data set say, complete or not; `complete` wants it complete.

    Attributes:
        title: The name of the data set in sentences.
        folder: Where it lies.
        image_folder: Where its images belong.
        table: As `Dataset.table`, without `path`.
        images: Paths of the image files that are there, by image id.
        masks: Paths of the lesion mask files that are there, by image id.
        faults: A sentence for each pair of label files that do not fit each other.
    """

    title: str
    folder: Path
    image_folder: Path
    table: pd.DataFrame
    images: dict[str, str]
    masks: dict[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def complete(name: str, classes: tuple[str, ...], listing: Listing) -> Dataset:
    """The data set that a listing describes.

    Raises:
        DatasetError: Label files do not fit each other, or images are missing.
    """
    if listing.faults:
        raise DatasetError(" ".join(listing.faults))
    table = listing.table.assign(path=listing.table["image_id"].map(listing.images))
    missing = table["path"].isna()
    if missing.all():
        raise DatasetError(
            f"No image of {listing.title} was found in {listing.folder}. Put the JPEG files into "
            f"{listing.image_folder}."
        )
    if missing.any():
        raise DatasetError(
            f"{int(missing.sum())} of {len(table)} images are missing in {listing.folder}, for "
            f"example {table.loc[missing, 'image_id'].iloc[0]}.jpg. Run `python -m dermsa data "
            f"check --dataset {name}` for the list."
        )
    return Dataset(name, classes, table.sort_values("image_id", ignore_index=True))


def load_photo(path: str | os.PathLike) -> np.ndarray:
    """A photo of a data set, see `images.load`.

    Raises:
        DatasetError: It cannot be read; the message names the file.
    """
    try:
        return images.load(path)
    except images.ImageRefused as error:
        raise DatasetError(f"{path}: {error}") from None


def read_table(
    path: Path,
    columns: tuple[str, ...],
    image_column: str = "image_id",
    optional: tuple[str, ...] = (),
) -> pd.DataFrame:
    """The columns of a comma or tab separated file, those that are optional where they are there;
    `image_column` renamed to `image_id`, sorted by it.

    Raises:
        DatasetError: It cannot be read, lacks one of the columns or repeats an image.
    """
    try:
        table = pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
    except (ValueError, csv.Error, OSError) as error:
        raise DatasetError(f"{path} is not a readable table: {error}") from None
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        raise DatasetError(f"{path} lacks the column(s) {', '.join(lacking)}.")
    present = [name for name in optional if name in table.columns]
    table = table[[*columns, *present]].rename(columns={image_column: "image_id"})
    if table["image_id"].duplicated().any():
        repeated = table.loc[table["image_id"].duplicated(), "image_id"].iloc[0]
        raise DatasetError(f"{path} lists the image {repeated} twice.")
    return table.sort_values("image_id", ignore_index=True)


def files_by_image(folder: Path, ending: str) -> dict[str, str]:
    """Paths of the files `<image id><ending>` of a folder (which may be missing), by image id."""
    return {path.name.removesuffix(ending): str(path) for path in folder.glob(f"*{ending}")}


def known_patients(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ages as numbers; impossible ages, strange sexes and sites are unknown."""
    age = pd.to_numeric(table["age"], errors="coerce").astype(float)
    table = table.assign(age=age.where(age.between(0, MAX_AGE)))
    for name, values in (("sex", taxonomy.SEXES), ("localization", taxonomy.LOCALIZATIONS)):
        table[name] = table[name].where(table[name].isin(values), taxonomy.UNKNOWN)
    return table


def data_root() -> Path | None:
    """The folder that holds the data sets: `DERMSA_DATA`, else `../shared/data`, else None."""
    if configured := os.environ.get("DERMSA_DATA"):
        return Path(configured).expanduser()
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return beside if beside.is_dir() else None


def require_root(folder: str | os.PathLike | None = None) -> Path:
    """The given folder, else `data_root()`.

    Raises:
        DatasetError: None is configured.
    """
    root = folder or data_root()
    if root is None:
        raise DatasetError(
            "No data folder. Set DERMSA_DATA to the folder that holds the data sets' folders, such "
            "as ham10000/, or give --data."
        )
    return Path(root)
