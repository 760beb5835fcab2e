"""Measures a model of `weights/` again, from the images."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dermsa import images
from dermsa.datasets import ham10000, splits
from dermsa.datasets.dataset import Dataset, DatasetError, require_root
from dermsa.evaluation import report
from dermsa.evaluation.metrics import Predictions
from dermsa.inference.ensemble import AnyPredictor, open_predictor
from dermsa.taxonomy import MALIGNANT

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
    dataset = ham10000.read(require_root(data))
    protocol = card["protocol"]
    split = splits.draw(dataset, protocol["name"], protocol["seed"])
    if split.sha256 != protocol["sha256"]:
        raise DatasetError(
            "These data are not those the model was trained on: the same protocol divides them "
            "differently, so training lesions could be tested. Nothing was measured."
        )
    rows = split.rows(dataset, part)
    predictions = predict_rows(predictor, dataset, rows)
    lesions = len(set(predictions.lesion_ids))
    return {
        "sentence": (
            f"{predictor.model.name} on {len(rows)} {part} images of {lesions} lesions of "
            f"{dataset.name}, protocol {protocol['name']}: {protocol['description']} No lesion "
            "is shared with training. Intervals: 95 %, bootstrap over lesions."
        ),
        "model": predictor.model.name,
        "model_sha256": predictor.model.sha256,
        "protocol": protocol,
        "part": part,
        "images": len(rows),
        "lesions": lesions,
        **report.measure(predictions),
    }


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
        malignant=MALIGNANT,
        case_ids=table["image_id"].to_numpy(),
        lesion_ids=table["lesion_id"].to_numpy(),
    )
