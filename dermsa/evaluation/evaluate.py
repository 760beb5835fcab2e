"""Measures a model of `weights/` again, from the images."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dermsa import images
from dermsa.datasets import registry, splits
from dermsa.datasets.dataset import Dataset, DatasetError
from dermsa.evaluation import report
from dermsa.evaluation.metrics import Predictions
from dermsa.inference.ensemble import AnyPredictor, open_predictor

BATCH = 32


def evaluate_model(name: str | None, part: str = "test", data: Path | None = None) -> dict:
    """Every metric of a model on a part of its own split.

    Args:
        name: A model in `weights/`; None for the default one.
        part: "validation" or "test".
        data: The folder of the data sets; None for `data_root()`.

    Returns:
        `sentence` (what was tested on what), `model`, `protocol`, `part`, `images`, `lesions`,
        and `overall` and `per_class` as in `report.measure`.

    Raises:
        ModelError: No such model.
        DatasetError: No data, or not those the model was split on.
    """
    predictor = open_predictor(name)
    card = predictor.model.card
    dataset = registry.read(card["data"]["name"], data)
    protocol = card["protocol"]
    split = split_of(card, dataset)
    rows = split.rows(dataset, part)
    predictions = predict_rows(predictor, dataset, rows)
    lesions = len(set(predictions.lesion_ids))
    return {
        "sentence": (
            f"{predictor.model.name} on {len(rows)} {part} images of {lesions} lesions of "
            f"{dataset.name}, protocol {protocol['name']}: {protocol['description']} "
            f"{_shared(dataset, split, rows)} Intervals: 95 %, bootstrap over lesions."
        ),
        "model": predictor.model.name,
        "model_sha256": predictor.model.sha256,
        "protocol": protocol,
        "part": part,
        "images": len(rows),
        "lesions": lesions,
        **report.measure(predictions),
    }


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


def _shared(dataset: Dataset, split: splits.Split, rows: np.ndarray) -> str:
    lesions = dataset.table["lesion_id"]
    trained = set(lesions.iloc[split.rows(dataset, "train")])
    shared = int(lesions.iloc[rows].isin(trained).sum())
    if not shared:
        return "No lesion is shared with training."
    return f"{shared} of these images show lesions that training images show, too."


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
