"""Decision curves: whether acting on a model's probability does more good than harm.

Vickers and Elkin (2006). At threshold t one accepts (1 - t) / t needless excisions for one cancer
found; the net benefit counts true positives less false ones at that rate, per case. Two
strategies need no model: refer everyone, and refer no one (0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dermsa.evaluation.metrics import Predictions
from dermsa.evaluation.statistics import SAMPLES, lesion_bootstrap_weights

THRESHOLDS = tuple(np.arange(1, 51) / 100)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit against the threshold, in true positives per case; arrays (t,).

    Attributes:
        thresholds: Probabilities from which on one acts.
        model: Net benefit of acting on the model.
        low, high: Its 95 % interval, bootstrap over lesions.
        refer_all: Net benefit of referring every case. Referring none has 0.
        n, n_lesions: What it rests on.
    """

    thresholds: np.ndarray
    model: np.ndarray
    low: np.ndarray
    high: np.ndarray
    refer_all: np.ndarray
    n: int
    n_lesions: int


def decision_curve(
    predictions: Predictions,
    of_class: str | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
    samples: int = SAMPLES // 4,
) -> DecisionCurve:
    """The decision curve of one class against the rest; None for malignant or not.

    Args:
        thresholds: In [0, 1).
        samples: For the intervals; a drawn band needs fewer than a table.
    """
    if of_class is None:
        score, positive = predictions.malignancy_probability, predictions.is_malignant
    else:
        column = predictions.classes.index(of_class)
        score, positive = predictions.probabilities[:, column], predictions.truth == column
    if not all(0 <= threshold < 1 for threshold in thresholds):
        raise ValueError(f"Expected thresholds from 0 to below 1. Received: {thresholds}")
    odds = np.array([threshold / (1 - threshold) for threshold in thresholds])
    # What acting on each case brings at each threshold; cases below it bring nothing. (n, k)
    benefit = np.where(positive[:, None], 1, -odds) * (score[:, None] >= np.array(thresholds))
    weights = lesion_bootstrap_weights(predictions.lesion_ids, samples)
    drawn = weights @ benefit / weights.sum(axis=1, keepdims=True)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    prevalence = positive.mean()
    return DecisionCurve(
        thresholds=np.array(thresholds),
        model=benefit.mean(axis=0),
        low=low,
        high=high,
        refer_all=prevalence - (1 - prevalence) * odds,
        n=len(predictions),
        n_lesions=len(np.unique(predictions.lesion_ids)),
    )
