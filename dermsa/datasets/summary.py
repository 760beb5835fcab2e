"""What a data set, and each part of a split, is made of.

tables = parts(dataset, split)                       # tables by part, the whole first
counts(tables["test"], "age", dataset.classes)       # {"20 to 29": 41, ...}
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dermsa.datasets.dataset import Dataset
from dermsa.datasets.splits import PLACES, Split
from dermsa.patient import MAX_AGE
from dermsa.taxonomy import LOCALIZATIONS, SEXES, UNKNOWN

WHOLE = "all"
PARTS = {
    WHOLE: "Whole data set",
    "train": "Training",
    "validation": "Validation",
    "test": "Test",
    "validation+test": "Validation and test",
    "left_out": "Left out",
}
"""Titles of what `parts` gives."""
PROPERTIES = {"dx": "Diagnosis", "age": "Age", "sex": "Sex", "localization": "Site"}
AGE_BAND = 10
"""Years."""


def parts(dataset: Dataset, split: Split) -> dict[str, pd.DataFrame]:
    """The table of the data set and of each place that the split fills, keys of `PARTS`."""
    places = dataset.table["image_id"].map(split.parts)
    filled = (place for place in PLACES if (places == place).any())
    return {WHOLE: dataset.table, **{place: dataset.table[places == place] for place in filled}}


def lesions(table: pd.DataFrame) -> pd.DataFrame:
    """One row a lesion, that of its first photo."""
    return table.drop_duplicates("lesion_id")


def counts(table: pd.DataFrame, name: str, classes: Sequence[str]) -> dict[str, int]:
    """How many rows have each value of a property of `PROPERTIES`.

    Args:
        table: As `Dataset.table`.
        name: Of the property.
        classes: Codes of the diagnoses, in the order to count them in.

    Returns:
        All values there can be, also those that nobody has: diagnoses as given, ages in bands from
        young to old, sexes and sites by name; the unknown last.
    """
    if name == "age":
        values, known = _age_bands(table["age"]), _band_names()
    else:
        values = table[name]
        known = {"dx": classes, "sex": SEXES, "localization": LOCALIZATIONS}[name]
    order = [value for value in known if value != UNKNOWN]
    order += [] if name == "dx" else [UNKNOWN]
    number = values.value_counts()
    return {value: int(number.get(value, 0)) for value in order}


def _age_bands(ages: pd.Series) -> pd.Series:
    names = np.array([*_band_names(), UNKNOWN])
    band = np.where(ages.notna(), ages.fillna(0) // AGE_BAND, len(names) - 1).astype(int)
    return pd.Series(names[band], index=ages.index)


def _band_names() -> list[str]:
    starts = range(0, int(MAX_AGE) + 1, AGE_BAND)
    return [f"{start} to {start + AGE_BAND - 1}" for start in starts]
