"""Evaluations of models that were never trained, for the tests of whatever reads evaluations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dermsa.evaluation import record, subgroups
from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.record import Evaluation
from dermsa.taxonomy import HAM10000_CLASSES, MALIGNANT

SHARES = (0.05, 0.08, 0.13, 0.04, 0.15, 0.5, 0.05)


def drawn_cases(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Cases of all seven classes, two photos of every third lesion; and their truth, int (n,)."""
    random = np.random.default_rng(0)
    lesion = np.cumsum(np.arange(n) % 4 != 3)
    of_lesion = random.choice(7, lesion.max() + 1, p=SHARES)
    of_lesion[1:8] = np.arange(7)
    truth = of_lesion[lesion]
    cases = pd.DataFrame(
        {
            "image_id": [f"DRAWN_{i:05d}" for i in range(n)],
            "lesion_id": [f"L{i:05d}" for i in lesion],
            "truth": np.array(HAM10000_CLASSES)[truth],
            "age": np.where(np.arange(n) % 17 == 0, np.nan, 5.0 * (np.arange(n) % 18)),
            "sex": np.array(["female", "male", ""])[np.minimum(np.arange(n) % 5 // 2, 2)],
            "localization": np.array(["back", "face", "foot"])[np.arange(n) % 3],
            "dx_type": np.array(["histo", "consensus"])[np.arange(n) % 2],
            "source": "",
        }
    )
    return cases, truth


def drawn_evaluation(
    model: str = "A", skill: float = 2.0, n: int = 300, seed: int = 1, samples: int = 200, **more
) -> Evaluation:
    """An evaluation of a model that knows the truth the better, the greater its skill."""
    cases, truth = drawn_cases(n)
    logits = np.random.default_rng(seed).normal(size=(n, 7)) + skill * np.eye(7)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predictions = Predictions(
        truth,
        probabilities,
        HAM10000_CLASSES,
        MALIGNANT,
        case_ids=cases["image_id"].to_numpy(dtype=str),
        lesion_ids=cases["lesion_id"].to_numpy(dtype=str),
    )
    about = {
        "kind": "model",
        "served": {"model.onnx": f"hash of {model}", "temperature": 1.0, "views": 1},
        "dataset": "ham10000",
        "protocol": "lesion",
        "part": "test",
        "split_sha256": "hash of the split",
        "sentence": f"{model} on {n} drawn cases.",
        "leaked_share": 0.0,
        "groups": subgroups.measure(predictions, cases, samples),
    }
    figures = record.figures(predictions, samples)
    return Evaluation(model, predictions=predictions, cases=cases, **(about | figures | more))
