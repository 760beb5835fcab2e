"""Many photos, one row each: what `python -m dermsa predict` writes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermsa import images
from dermsa.inference.ensemble import AnyPredictor
from dermsa.patient import Patient, PatientError, parse

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
PATIENT_COLUMNS = ("age", "sex", "localization")
BATCH = 16


class TableError(ValueError):
    """A table of patients that cannot be used; the message says why."""


@dataclass(frozen=True)
class Row:
    """One photo's answer, or why there is none.

    Attributes:
        image_id: See `image_id`.
        probabilities: float64 `(classes,)`, calibrated; None where there is an error.
        error: One sentence; "" where there is an answer.
    """

    image_id: str
    probabilities: np.ndarray | None
    error: str = ""


class Prepared(NamedTuple):
    """One photo as the model sees it, with its patient; or an error alone."""

    image_id: str
    seen: np.ndarray | tuple[np.ndarray, ...] | None = None
    patient: Patient | None = None
    error: str = ""


def columns(predictor: AnyPredictor) -> list[str]:
    """Header of the table."""
    return [
        "image_id", "model", *predictor.classes, "diagnosis", "malignancy", "refer", "error",
    ]  # fmt: skip


def cells(predictor: AnyPredictor, row: Row) -> list[str]:
    """A row in the order of `columns`."""
    if row.probabilities is None:
        empty = [""] * (len(predictor.classes) + 3)
        return [row.image_id, predictor.model.name, *empty, row.error]
    return [
        row.image_id,
        predictor.model.name,
        *(f"{p:.6f}" for p in row.probabilities),
        predictor.named(row.probabilities),
        *_referral(predictor, row.probabilities),
        "",
    ]


def _referral(predictor: AnyPredictor, probabilities: np.ndarray) -> tuple[str, str]:
    """Malignancy and whether to refer; empty where the model knows no malignant diagnosis."""
    if predictor.operating_point is None:
        return "", ""
    malignancy = predictor.malignancy(probabilities)
    refer = malignancy >= predictor.operating_point["threshold"]
    return f"{malignancy:.6f}", "yes" if refer else "no"


def find_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Files as given, and everything in folders whose name says it is a picture, sorted."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        else:
            files.append(path)
    return files


def image_id(name: str | os.PathLike) -> str:
    """What a picture file is called in tables: its name without the suffix of a picture.

    Nothing else is cut off, so that names with dots ("1.2.840.10008") stay whole.
    """
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def read_patients(path: str | os.PathLike) -> tuple[dict[str, Patient | str], list[str]]:
    """Reads a CSV with `image_id` and any of age, sex, localization.

    Returns:
        By image id the patient, or a sentence where the row is wrong; and warnings.

    Raises:
        TableError: No CSV, or no column `image_id`.
    """
    patients: dict[str, Patient | str] = {}
    warnings: list[str] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "image_id" not in (reader.fieldnames or ()):
                raise TableError(
                    f"The table {path} has no column image_id. Expected the columns image_id, "
                    "age, sex, localization."
                )
            for row in reader:
                name = image_id((row["image_id"] or "").strip())
                if name in patients:
                    warnings.append(f"{name}: listed twice; the last row counts.")
                try:
                    patient, notes = parse(*(row.get(name) for name in PATIENT_COLUMNS))
                except PatientError as error:
                    patients[name] = str(error)
                    continue
                patients[name] = patient
                warnings += [f"{name}: {note}" for note in notes]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"The table {path} cannot be read: {error}") from None
    return patients, warnings


def predict_files(
    predictor: AnyPredictor, files: Iterable[Path], patients: dict[str, Patient | str]
) -> Iterator[Row]:
    """Answers file by file, in their order, holding only a few pictures in memory.

    A file that cannot be read, or a patient row that is wrong, becomes a row with its error.
    """
    unknown = Patient()

    def prepare(path: Path) -> Prepared:
        name = image_id(path)
        patient = patients.get(name, unknown)
        if isinstance(patient, str):
            return Prepared(name, error=patient)
        try:
            return Prepared(name, predictor.seen(images.load(path)), patient)
        except images.ImageRefused as error:
            return Prepared(name, error=str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(_ahead(pool, prepare, files)):
            good = [item for item in batch if not item.error]
            answers = iter(())
            if good:
                answers = iter(
                    predictor.answers([item.seen for item in good], [item.patient for item in good])
                )
            for item in batch:
                yield Row(item.image_id, None if item.error else next(answers), item.error)


def _ahead(pool: ThreadPoolExecutor, function, items: Iterable) -> Iterator:
    """Like `pool.map`, but only two batches ahead: a million files must not fill the memory."""
    items = iter(items)
    waiting: list[Future] = [pool.submit(function, item) for item in islice(items, 2 * BATCH)]
    while waiting:
        done = waiting.pop(0).result()
        waiting += [pool.submit(function, item) for item in islice(items, 1)]
        yield done


def _batches(items: Iterator) -> Iterator[list]:
    while batch := list(islice(items, BATCH)):
        yield batch
