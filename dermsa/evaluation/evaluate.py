"""A model of `weights/`, the cases that it is measured on, and what it says about them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermsa import images
from dermsa.datasets import registry, splits
from dermsa.datasets.dataset import Dataset, DatasetError
from dermsa.evaluation.metrics import Predictions
from dermsa.inference.ensemble import AnyPredictor, open_predictor

BATCH = 32


@dataclass(frozen=True)
class Subject:
    """A model and the cases that it is measured on.

    Attributes:
        predictor: The opened model.
        dataset: The data set that the cases are of.
        split: Says which cases these are: the model's own split, or another protocol's.
        part: "validation" or "test".
        rows: Of the part, in `dataset.table`.
        leaked: bool, one a row: whether the model's training part has a photo of its lesion.
        sentence: What is tested on what, for the first line of every report.
    """

    predictor: AnyPredictor
    dataset: Dataset
    split: splits.Split
    part: str
    rows: np.ndarray
    leaked: np.ndarray
    sentence: str


def subject(
    name: str | None,
    part: str = "test",
    data: Path | None = None,
    protocol: str | None = None,
    seed: int = 0,
    fold: int = 0,
) -> Subject:
    """Opens a model and finds the cases of a part.

    Args:
        name: A model in `weights/`; None for the default one.
        part: "validation" or "test".
        data: The folder of the data sets; None for `data_root()`.
        protocol: A key of `splits.PROTOCOLS`, whose cases to take; None for the model's own split.
        seed, fold: Of the protocol.

    Raises:
        ModelError: No such model.
        DatasetError: No data, not those the model was split on, or the protocol does not fit them.
    """
    predictor = open_predictor(name)
    card = predictor.model.card
    own = registry.read(card["data"]["name"], data)
    trained = split_of(card, own)
    dataset, split = own, trained
    if protocol:
        dataset = registry.read("isic2018", data) if protocol == "isic2018" else own
        split = splits.draw(dataset, protocol, seed, fold)
    if dataset.classes != predictor.classes:
        raise DatasetError(f"{predictor.model.name} knows other diagnoses than {dataset.name}.")
    rows = split.rows(dataset, part)
    seen = own.table["lesion_id"].iloc[trained.rows(own, "train")]
    leaked = dataset.table["lesion_id"].iloc[rows].isin(set(seen)).to_numpy()
    under = trained.protocol if split.sha256 != trained.sha256 else ""
    words = sentence(predictor.model.name, dataset, split, part, rows, leaked, under)
    return Subject(predictor, dataset, split, part, rows, leaked, words)


def leaked(dataset: Dataset, split: splits.Split, rows: np.ndarray) -> np.ndarray:
    """Whether the lesion of each row has a photo in the training part, bool `(n,)`."""
    lesions = dataset.table["lesion_id"]
    trained = set(lesions.iloc[split.rows(dataset, "train")])
    return lesions.iloc[rows].isin(trained).to_numpy()


def sentence(
    name: str,
    dataset: Dataset,
    split: splits.Split,
    part: str,
    rows: np.ndarray,
    leaked: np.ndarray,
    trained_under: str = "",
) -> str:
    """What is tested on what, for the first line of every report.

    Args:
        leaked: bool `(n,)`, of the rows.
        trained_under: The protocol of the training, where it was another split.
    """
    lesions = dataset.table["lesion_id"].iloc[rows].nunique()
    shared = int(leaked.sum())
    leak = (
        f"{shared} of these images ({shared / len(rows):.1%}) show lesions that training images "
        "show, too: the figures are too good."
        if shared
        else "No lesion is shared with training."
    )
    trained = f" It was trained under {trained_under}." if trained_under else ""
    return (
        f"{name} on {len(rows)} {part} images of {lesions} lesions of {dataset.name}, protocol "
        f"{split.protocol}: {splits.PROTOCOLS[split.protocol]}{trained} {leak} Intervals: 95 %, "
        "bootstrap over lesions."
    )


def split_of(card: dict, dataset: Dataset) -> splits.Split:
    """The split of a model, drawn again.

    Raises:
        DatasetError: The data are not those the model was split on.
    """
    protocol = card["protocol"]
    split = splits.draw(dataset, protocol["name"], protocol["seed"], protocol.get("fold") or 0)
    if split.sha256 != protocol["sha256"]:
        raise DatasetError(
            "These data are not those the model was trained on: the same protocol divides them "
            "differently, so training lesions could be tested. Nothing was measured."
        )
    return split


def predict_rows(predictor: AnyPredictor, dataset: Dataset, rows: np.ndarray) -> Predictions:
    """Calibrated probabilities of the given rows beside their truth, from the image files."""

    def prepare(path: str) -> np.ndarray | tuple[np.ndarray, ...]:
        return predictor.seen(images.load(path))

    paths = dataset.table["path"].to_numpy()
    patients = dataset.patients()
    answers = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chosen in np.array_split(rows, range(BATCH, len(rows), BATCH)):
            seen = list(pool.map(prepare, paths[chosen]))
            answers.append(predictor.answers(seen, [patients[row] for row in chosen]))
    return predictions_of(dataset, rows, np.concatenate(answers))


def predictions_of(dataset: Dataset, rows: np.ndarray, probabilities: np.ndarray) -> Predictions:
    """Probabilities `(n, classes)` of the given rows beside their truth."""
    table = dataset.table.iloc[rows]
    return Predictions(
        dataset.labels()[rows],
        probabilities,
        dataset.classes,
        malignant=dataset.malignant,
        case_ids=table["image_id"].to_numpy(),
        lesion_ids=table["lesion_id"].to_numpy(),
    )
