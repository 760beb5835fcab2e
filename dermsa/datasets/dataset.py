"""A labelled set of lesion photos, whatever it was read from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dermsa.patient import AgeScale, Patient


class DatasetError(ValueError):
    """A data set that is missing or not as expected; the message says how to mend it."""


@dataclass(frozen=True)
class Dataset:
    """Images with their truth and patients.

    Attributes:
        name: What it is called in cards and reports.
        classes: Codes of the diagnoses, in the order of every probability vector.
        table: One row an image, sorted by `image_id`: `image_id`, `lesion_id`, `dx` (a code of
            `classes`), `dx_type`, `age` (NaN where unknown), `sex`, `localization`, `path`.
    """

    name: str
    classes: tuple[str, ...]
    table: pd.DataFrame

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
            "No data folder. Set DERMSA_DATA to the folder that holds ham10000/, or give --data."
        )
    return Path(root)
