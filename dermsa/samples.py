"""Lesions to try the app with: drawn ones, and real ones where HAM10000 is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from dermsa.datasets import synthetic
from dermsa.datasets.dataset import DatasetError, data_root
from dermsa.patient import Patient
from dermsa.taxonomy import NAMES

# Which drawing stands for each diagnosis, and a patient to go with it.
DRAWN = (
    ("nv", 1, Patient(35, "female", "back")),
    ("mel", 3, Patient(62, "male", "back")),
    ("bcc", 2, Patient(70, "male", "face")),
    ("akiec", 1, Patient(75, "male", "scalp")),
    ("bkl", 2, Patient(60, "female", "trunk")),
    ("df", 1, Patient(45, "female", "lower extremity")),
    ("vasc", 1, Patient(50, "female", "abdomen")),
)
DRAWN_SIZE = (450, 600)


@dataclass(frozen=True)
class Sample:
    """One lesion to choose.

    Attributes:
        title: What to show in a list.
        patient: The patient that goes with it.
        photos: Gives its photos as contents of image files, by name.
    """

    title: str
    patient: Patient
    photos: Callable[[], dict[str, bytes]]


def samples() -> tuple[Sample, ...]:
    """All samples, the drawn ones first."""
    return (*drawn_samples(), *real_samples())


def drawn_samples() -> tuple[Sample, ...]:
    """One drawn lesion of each diagnosis, the same ones every time."""
    return tuple(
        Sample(f"{NAMES[code]} (drawing)", patient, lambda code=code, seed=seed: _draw(code, seed))
        for code, seed, patient in DRAWN
    )


def real_samples(per_class: int = 2) -> tuple[Sample, ...]:
    """Lesions of the test part of HAM10000's standard split, with all their photos.

    Args:
        per_class: How many of each diagnosis; lesions with several photos come first.

    Returns:
        Nothing where no HAM10000 folder is configured or it is not as expected.
    """
    # Reading the table needs pandas, which nobody without the data set should wait for.
    from dermsa.datasets import ham10000, splits

    try:
        dataset = ham10000.read(data_root()) if data_root() else None
    except DatasetError:
        return ()
    if dataset is None:
        return ()
    test = dataset.subset(splits.draw(dataset, "lesion").rows(dataset, "test"))
    lesions = [rows for _, rows in test.table.groupby("lesion_id")]
    return tuple(
        _real_sample(rows)
        for code in dataset.classes
        for rows in sorted(
            (rows for rows in lesions if rows["dx"].iloc[0] == code), key=len, reverse=True
        )[:per_class]
    )


def _real_sample(rows) -> Sample:
    """A sample from the rows that a lesion has in `Dataset.table`, one a photo."""
    lesion = rows.iloc[0]
    age = float(lesion["age"]) if lesion["age"] == lesion["age"] else None  # NaN: unknown
    paths = [Path(path) for path in rows["path"]]
    return Sample(
        f"{NAMES[lesion['dx']]} (real, {lesion['lesion_id']})",
        Patient(age, lesion["sex"], lesion["localization"]),
        lambda: {path.name: path.read_bytes() for path in paths},
    )


def _draw(code: str, seed: int) -> dict[str, bytes]:
    rgb, _ = synthetic.draw_lesion(code, seed, DRAWN_SIZE)
    return {f"drawing-{code}.png": cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()}
