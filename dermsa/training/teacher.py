"""Distillation: what a network learns from the answers of a model in `weights/` (Hinton, Vinyals,
Dean 2015, arXiv:1503.02531).

The teacher has been trained on the same photos and is surer of them than of new ones, so that its
share goes beside the label and does not take its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from dermsa.datasets import splits
from dermsa.datasets.dataset import Dataset
from dermsa.training import kept_answers
from dermsa.training.config import TrainingConfig
from dermsa.training.runs import Run, RunError

FILE = "teacher.npz"
AT_ONCE = 64  # so few that the run gives a sign of life every few seconds

log = logging.getLogger("dermsa.training")


def targets(
    run: Run,
    config: TrainingConfig,
    dataset: Dataset,
    rows: np.ndarray,
    tell: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """What the network shall say of each photo: the label's share and the teacher's.

    The answers are kept in the run's folder: a resumed run needs no teacher any more. They are
    kept in the cache folder as well: the next run with this teacher need not ask it again.

    Args:
        run: Its split is drawn.
        rows: Of the training part, in `dataset.table`.
        tell: Hears which share of the photos is done.

    Returns:
        float32 `(n, classes)` for all rows of the data set; 0 outside the training part.

    Raises:
        ModelError: There is no such model, or it is damaged.
        RunError: It answers other diagnoses, or was trained on another split: it could have seen
            the photos that this run is tested on.
    """
    answers = kept_answers.read(run.folder / FILE, rows)
    if answers is None:
        answers = _ask(run, config.teacher, dataset, rows, tell)
        kept_answers.keep(run.folder / FILE, rows, answers)
    found = np.zeros((len(dataset.table), len(dataset.classes)), np.float32)
    labels = np.eye(len(dataset.classes), dtype=np.float32)[dataset.labels()[rows]]
    found[rows] = (1 - config.teacher_share) * labels + config.teacher_share * answers
    return found


def _ask(
    run: Run, name: str, dataset: Dataset, rows: np.ndarray, tell: Callable[[float], None]
) -> np.ndarray:
    # Other trainings need no ONNX Runtime: it may be missing where only training is done.
    from dermsa.evaluation.evaluate import predict_rows
    from dermsa.evaluation.record import served_form
    from dermsa.inference.ensemble import open_predictor

    predictor = open_predictor(name)
    card = predictor.model.card
    if predictor.classes != dataset.classes:
        raise RunError(f"{name} knows other diagnoses than {dataset.name}: it cannot teach here.")
    if "folds" in card:
        raise RunError(
            f"{name} is an ensemble over folds: some of its members were trained on the photos "
            "that this run is validated on. Choose a teacher that was not."
        )
    if card["protocol"]["sha256"] != splits.read_split(run.split).sha256:
        raise RunError(
            f"{name} was trained on another split: it may have seen photos that this run is "
            "validated or tested on. Choose a teacher of the same protocol and seed."
        )
    form = served_form(card)
    path = kept_answers.place_of(form, dataset, rows)
    answers = kept_answers.read(path, rows)
    if answers is None:
        parts = []
        for start in range(0, len(rows), AT_ONCE):
            tell(start / len(rows))
            chosen = rows[start : start + AT_ONCE]
            parts.append(predict_rows(predictor, dataset, chosen).probabilities)
        answers = np.concatenate(parts).astype(np.float32)
        kept_answers.keep(path, rows, answers)
    log.info("%s has taught: %s.", name, form)
    return answers
