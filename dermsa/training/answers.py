"""What served networks say of the photos of a data set, many at a time.

Logits are kept in the cache folder: who makes several ensembles of the same networks waits once.
An evaluation (`dermsa.evaluation`) uses none of this; it looks at the image files each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from dermsa.datasets.dataset import Dataset
from dermsa.inference.engine import Engine
from dermsa.inference.predictor import mean_logits
from dermsa.patient import AgeScale
from dermsa.training import kept_answers
from dermsa.training.examples import Examples

BATCH = 32
PATIENT_EVIDENCE = "patient_evidence"


def form_of(sha256: str, views: int, age_scale: AgeScale) -> dict:
    """What logits depend on besides the photos: the file's hash, the views, how age is scaled."""
    return {"model.onnx": sha256, "views": views, "age_scale": asdict(age_scale)}


def kept_logits(
    form: Mapping, engine: Engine, dataset: Dataset, examples: Examples, rows: np.ndarray
) -> np.ndarray:
    """Logits of the given rows, from the cache folder where they were asked for before.

    Args:
        form: From `form_of`.
        engine: Of the model's file.
        dataset: Whose rows these are; other photos have other answers.
        examples: The data set at the engine's input size.

    Returns:
        float32 `(n, classes)`.
    """
    path = kept_answers.place_of(form, dataset, rows)
    logits = kept_answers.read(path, rows)
    if logits is None:
        logits = run_engine(engine, examples, rows, form["views"])
        kept_answers.keep(path, rows, logits)
    return logits


def run_engine(
    engine: Engine,
    examples: Examples,
    rows: np.ndarray,
    views: int,
    patient: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of the given rows, float32 `(n, classes)`.

    Args:
        views: How many test-time views the logits are averaged over.
        patient: float32 `(21,)` for all rows, instead of their own.
    """
    logits = []
    for chosen in _batches(rows):
        inputs = examples.inputs(chosen)
        vectors = inputs["patient"] if patient is None else patient[None]
        logits.append(mean_logits(engine, inputs["image"], vectors, views))
    return np.concatenate(logits)


def with_patient(
    engine: Engine,
    examples: Examples,
    rows: np.ndarray,
    views: int,
    logits: np.ndarray,
    patient: np.ndarray,
) -> np.ndarray:
    """What `run_engine` answers with the same patient for all rows, float32 `(n, classes)`.

    Where logits split into evidence, only the patients' share of it changes, and no photo has to
    be looked at again.

    Args:
        logits: What it answered with the rows' own patients.
        patient: float32 `(21,)`.
    """
    if PATIENT_EVIDENCE not in engine.outputs:
        return run_engine(engine, examples, rows, views, patient)
    any_photo = np.zeros((1, *engine.input_size, 3), np.float32)
    of_rows = engine(any_photo, examples.patients[rows], (PATIENT_EVIDENCE,))[PATIENT_EVIDENCE]
    of_patient = engine(any_photo, patient[None], (PATIENT_EVIDENCE,))[PATIENT_EVIDENCE]
    return logits - of_rows + of_patient


def embeddings_of(engine: Engine, examples: Examples, rows: np.ndarray) -> np.ndarray:
    embeddings = []
    for chosen in _batches(rows):
        inputs = examples.inputs(chosen)
        out = engine(inputs["image"], inputs["patient"][:1], ("embedding",))
        embeddings.append(out["embedding"])
    return np.concatenate(embeddings)


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, range(BATCH, len(rows), BATCH))
