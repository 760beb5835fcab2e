"""Where a model fails: its most confident mistakes, and the melanomas that it would let go.

    failures = find(evaluation, card)      # from the kept evaluation and the card of a model
    markdown(failures)                     # a page of them, by image id

A lesion stands once, with the photo that speaks worst for the model; how many of its photos fare
alike is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermsa.evaluation.record import Evaluation
from dermsa.taxonomy import NAMES

MISTAKES = 20
COLUMNS = (
    "image_id", "lesion_id", "truth", "said", "probability", "of_truth", "malignancy", "age",
    "sex", "localization", "dx_type", "photos", "alike",
)  # fmt: skip
PHOTO = "https://api.isic-archive.com/images/{}/"


@dataclass(frozen=True)
class Failures:
    """What went wrong on the cases of one evaluation.

    Attributes:
        model: Name.
        sentence: What was tested on what.
        threshold: Malignancy from which the model refers by default.
        promised: Sensitivity for malignancy that the threshold had on validation.
        promised_by: Which members of an ensemble over folds had it there; "" for other models.
        mistakes: A row a lesion, with `COLUMNS`, of those given the highest probability of a
            wrong diagnosis, falling; `alike` photos of its `photos` got a wrong diagnosis.
        missed: A row a melanoma, with `COLUMNS`, of which at least one photo is below the
            threshold, by malignancy, rising; `alike` photos are below it.
        wrong_images, images: How many photos got a wrong diagnosis, of how many.
        melanomas: Lesions.
    """

    model: str
    sentence: str
    threshold: float
    promised: float
    promised_by: str
    mistakes: pd.DataFrame
    missed: pd.DataFrame
    wrong_images: int
    images: int
    melanomas: int


def find(evaluation: Evaluation, card: Mapping, mistakes: int = MISTAKES) -> Failures:
    """Looks for failures among the cases of an evaluation.

    Args:
        evaluation: Of the model of the card, on data that know melanomas.
        card: With a default threshold for malignancy.
        mistakes: How many lesions at most.

    Raises:
        ValueError: The model tells no melanomas.
    """
    if "mel" not in evaluation.classes:
        raise ValueError(f"{evaluation.model} knows no melanoma: there is none to miss.")
    triage = card["triage"]
    point = next(
        each
        for each in triage["malignancy"]
        if each["target_sensitivity"] == triage["default_sensitivity"]
    )
    predictions = evaluation.predictions
    names, rows = np.array(predictions.classes), np.arange(len(predictions))
    probabilities = predictions.probabilities
    malignant = [predictions.classes.index(code) for code in card["malignant"]]
    table = evaluation.cases.reset_index(drop=True).assign(
        truth=names[predictions.truth],
        said=names[predictions.predicted],
        probability=predictions.probability_of_predicted,
        of_truth=probabilities[rows, predictions.truth],
        malignancy=probabilities[:, malignant].sum(axis=1),
    )
    table["wrong"] = table["said"] != table["truth"]
    table["below"] = table["malignancy"] < point["threshold"]
    table["photos"] = table.groupby("lesion_id")["image_id"].transform("size")
    melanomas = table[table["truth"] == "mel"]
    return Failures(
        evaluation.model,
        evaluation.sentence,
        point["threshold"],
        point["target_sensitivity"],
        _asked(card),
        _worst(table, "wrong", "probability", ascending=False)[:mistakes],
        _worst(melanomas, "below", "malignancy", ascending=True),
        int(table["wrong"].sum()),
        len(table),
        melanomas["lesion_id"].nunique(),
    )


def _asked(card: Mapping) -> str:
    if "folds" not in card:
        return ""
    return f"each answered by {card['folds']['members_asked']} of {len(card['members'])} members"


def _worst(table: pd.DataFrame, failed: str, by: str, *, ascending: bool) -> pd.DataFrame:
    """The failed photos, the worst of each lesion alone."""
    alike = table.groupby("lesion_id")[failed].transform("sum")
    failing = table.assign(alike=alike)[table[failed]]
    failing = failing.sort_values([by, "image_id"], ascending=[ascending, True])
    return failing.drop_duplicates("lesion_id")[list(COLUMNS)].reset_index(drop=True)


def markdown(failures: Failures) -> str:
    """A page for people; the photos stay in their archive, and are linked."""
    whole = int((failures.missed["alike"] == failures.missed["photos"]).sum())
    of_mistakes = [
        f"| {_photo(row)} | {_name(row.truth)} | {_name(row.said)}, {row.probability:.0%} "
        f"| {row.of_truth:.1%} | {_patient(row)} | {row.dx_type or 'unknown'} "
        f"| {row.alike} of {row.photos} |"
        for row in failures.mistakes.itertuples()
    ]
    of_missed = [
        f"| {_photo(row)} | {row.malignancy:.1%} | {_name(row.said)}, {row.probability:.0%} "
        f"| {_patient(row)} | {row.dx_type or 'unknown'} | {row.alike} of {row.photos} |"
        for row in failures.missed.itertuples()
    ]
    return f"""# Where {failures.model} fails

{failures.sentence} Of {failures.images:,} photos {failures.wrong_images:,} \
({failures.wrong_images / failures.images:.1%}) get a wrong diagnosis.

The photos are linked by their id in the ISIC Archive. With HAM10000 on the machine, the Compare \
page opens each of them with the maps of every model (view Cases).

## Melanomas below the threshold

The model refers where malignancy reaches {failures.threshold:.1%}, which found \
{failures.promised:.0%} of the malignant photos on validation\
{f", {failures.promised_by}" if failures.promised_by else ""}. Of {failures.melanomas} melanomas \
in the test part, {len(failures.missed)} have at least one photo below it, {whole} of them all \
their photos:

| Photo | Malignancy | Diagnosis given | Patient | Confirmed by | Photos below |
|---|---|---|---|---|---|
{chr(10).join(of_missed)}

## The most confident mistakes

The {len(failures.mistakes)} lesions whose photo got the highest probability of a wrong diagnosis:

| Photo | Truth | Diagnosis given | Probability of the truth | Patient | Confirmed by \
| Photos wrong |
|---|---|---|---|---|---|---|
{chr(10).join(of_mistakes)}
"""


def _photo(row) -> str:
    return f"[{row.image_id}]({PHOTO.format(row.image_id)})"


def _name(code: str) -> str:
    return NAMES[code]


def _patient(row) -> str:
    age = "" if np.isnan(row.age) else f"{row.age:.0f}"
    known = [each for each in (age, row.sex, row.localization) if each and each != "unknown"]
    return ", ".join(known) or "unknown"
