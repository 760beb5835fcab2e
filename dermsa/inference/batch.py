"""Many photos, one row each: what `python -m dermsa predict` writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dermsa import images, tables
from dermsa.inference import quality
from dermsa.inference.diagnosis import Novelty, may_be_judged, verdict_of
from dermsa.inference.ensemble import AnyPredictor
from dermsa.patient import Patient, PatientError, parse
from dermsa.tables import PICTURE_SUFFIXES, TableError, image_id

PATIENT_COLUMNS = ("age", "sex", "localization")
BATCH = 16


class Prepared(NamedTuple):
    """One photo as the model sees it, with its patient; or an error alone."""

    file: Path
    patient: Patient = Patient()
    seen: np.ndarray | tuple[np.ndarray, ...] | None = None
    quality: tuple[quality.Finding, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Row:
    """One photo's answer, or why there is none.

    Attributes:
        file: The picture, as it was found.
        patient: As whose photo it was answered.
        probabilities: float64 `(classes,)`, calibrated; None where there is an error.
        quality: What is wrong with the photo.
        novelty: None where the model has no measure of it, or there is an error.
        error: One sentence; "" where there is an answer.
    """

    file: Path
    patient: Patient = Patient()
    probabilities: np.ndarray | None = None
    quality: tuple[quality.Finding, ...] = ()
    novelty: Novelty | None = None
    error: str = ""

    @property
    def image_id(self) -> str:
        return image_id(self.file)

    @property
    def reliable(self) -> bool:
        """See `may_be_judged`."""
        return may_be_judged(self.quality, self.novelty)


def columns(predictor: AnyPredictor) -> list[str]:
    """Header of the table."""
    return [
        "image_id", "file", *PATIENT_COLUMNS, "model", *predictor.classes, "diagnosis",
        "malignancy", "verdict", "reliable", "quality", "unfamiliar", "error",
    ]  # fmt: skip


def cells(predictor: AnyPredictor, row: Row) -> list[str]:
    """A row in the order of `columns`."""
    age = "" if row.patient.age is None else f"{row.patient.age:g}"
    about = [row.image_id, str(row.file), age, row.patient.sex, row.patient.localization]
    about.append(predictor.model.name)
    if row.probabilities is None:
        return [*about, *[""] * (len(predictor.classes) + 6), row.error]
    return [
        *about,
        *(f"{p:.6f}" for p in row.probabilities),
        predictor.named(row.probabilities),
        *_referral(predictor, row),
        _yes(row.reliable),
        " ".join(finding.code for finding in row.quality),
        _yes(row.novelty.unfamiliar) if row.novelty else "",
        "",
    ]


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _referral(predictor: AnyPredictor, row: Row) -> tuple[str, str]:
    """Malignancy and the verdict; empty where the model knows no malignant diagnosis."""
    if predictor.operating_point is None:
        return "", ""
    malignancy = predictor.malignancy(row.probabilities)
    refer = malignancy >= predictor.operating_point["threshold"]
    return f"{malignancy:.6f}", verdict_of(refer, row.reliable)


def find_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Files as given, and everything in folders whose name says it is a picture, sorted."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        else:
            files.append(path)
    return list(dict.fromkeys(files))  # once, however often it is named


def same_names(files: Iterable[Path]) -> str:
    """A sentence where two pictures have the same image id, which a table of patients could not
    tell apart; "" where all differ."""
    found: dict[str, Path] = {}
    for path in files:
        other = found.setdefault(image_id(path), path)
        if other != path:
            return f"{other} and {path} have the same name: a table cannot tell which is meant."
    return ""


def unmatched(ids: Iterable[str], patients: Iterable[str], noun: str = "picture") -> list[str]:
    """Warnings of pictures without a row, and of rows without a picture.

    Args:
        ids: Image ids, of the pictures that are answered.
        patients: Those of the table.
        noun: What the pictures that are answered all have.
    """
    ids, listed = set(ids), set(patients)
    warnings = []
    for names, sentence in (
        (ids - listed, "picture(s) have no row in the table and count as of unknown patients"),
        (listed - ids, f"row(s) of the table have no {noun}"),
    ):
        if names:
            warnings.append(f"{len(names)} {sentence}, for example {min(names)}.")
    return warnings


def read_patients(path: str | os.PathLike) -> tuple[dict[str, Patient | str], list[str]]:
    """Reads a table (`tables.read`) with `image_id` and any of age, sex, localization.

    Returns:
        By image id the patient, or a sentence where the row is wrong; and warnings.

    Raises:
        TableError: It cannot be read, or has no column `image_id`.
    """
    table = tables.read(path, ("image_id", *PATIENT_COLUMNS))
    if "image_id" not in table.columns:
        raise TableError(
            f"The table {path} has no column image_id. Expected the columns image_id, age, sex, "
            "localization."
        )
    warnings = []
    if missing := [name for name in PATIENT_COLUMNS if name not in table.columns]:
        warnings.append(
            f"The table {path} has no column {' and none '.join(missing)}, which counts as "
            f"unknown of every patient; its columns are {', '.join(table.columns)}."
        )
    patients: dict[str, Patient | str] = {}
    nameless = 0
    for row in table.to_dict("records"):
        name = image_id(row["image_id"])
        if not name:
            nameless += any(row.get(column) for column in PATIENT_COLUMNS)
            continue
        if name in patients:
            patients[name] = f"The table of patients lists {name} twice."
            continue
        try:
            patient, notes = parse(*(row.get(column) for column in PATIENT_COLUMNS))
        except PatientError as error:
            patients[name] = str(error)
            continue
        patients[name] = patient
        warnings += [f"{name}: {note}" for note in notes]
    if nameless:
        warnings.append(f"{nameless} row(s) of the table have no image_id: of no picture.")
    return patients, warnings


def predict_files(
    predictor: AnyPredictor, files: Iterable[Path], patients: dict[str, Patient | str]
) -> Iterator[Row]:
    """Answers file by file, in their order, holding only a few pictures in memory.

    A file that cannot be read, or a patient row that is wrong, becomes a row with its error.
    """

    def prepare(path: Path) -> Prepared:
        patient = patients.get(image_id(path), Patient())
        if isinstance(patient, str):
            return Prepared(path, error=patient)
        try:
            rgb = images.load(path)
        except images.ImageRefused as error:
            return Prepared(path, patient, error=str(error))
        return Prepared(path, patient, predictor.seen(rgb), quality.findings(rgb))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(_ahead(pool, prepare, files)):
            good = [item for item in batch if not item.error]
            answers = iter(())
            if good:
                seen, of = [item.seen for item in good], [item.patient for item in good]
                answers = zip(*predictor.answers_with_novelty(seen, of), strict=True)
            for item in batch:
                if item.error:
                    yield Row(item.file, item.patient, error=item.error)
                else:
                    probabilities, novelty = next(answers)
                    yield Row(item.file, item.patient, probabilities, item.quality, novelty)


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
