"""What is measured of a model, as plain data for cards, tables and files.

Everything chosen (temperature, lean, thresholds, quantiles) comes from validation cases; everything
reported comes from test cases.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from dermsa.evaluation.calibration import malignancy_threshold
from dermsa.evaluation.metrics import METRICS, Metric, Predictions, Ranking, rank
from dermsa.evaluation.statistics import SAMPLES, bootstrap_report

TRIAGE_TARGETS = (0.90, 0.95, 0.98)
DEFAULT_SENSITIVITY = 0.95  # of those, what a model refers by


def measure(predictions: Predictions, samples: int = SAMPLES) -> dict[str, dict]:
    """Every metric with its 95 % interval from a bootstrap over lesions.

    Returns:
        `overall`: interval by metric. `per_class`: by metric, then by class. An interval is
        `{value, low, high, n, n_lesions}`, with None where it is not defined.
    """
    overall, per_class = {}, {}
    for estimate in bootstrap_report(predictions, METRICS.values(), samples=samples):
        if estimate.of_class is None:
            overall[estimate.metric] = estimate.interval.as_dict()
        else:
            per_class.setdefault(estimate.metric, {})[estimate.of_class] = (
                estimate.interval.as_dict()
            )
    return {"overall": overall, "per_class": per_class}


def operating_points(
    validation: Predictions, test: Predictions, positive: frozenset[str], samples: int = SAMPLES
) -> list[dict]:
    """Thresholds that reach a sensitivity on validation, and what they do on test.

    Args:
        validation: Chooses the thresholds.
        test: Measures them.
        positive: The classes to be found; their probabilities add up.
    """
    score, is_positive = _against_rest(validation, positive)
    points = []
    for target in TRIAGE_TARGETS:
        threshold = malignancy_threshold(score, is_positive, target)
        rates = rates_at(test, positive, threshold, samples)
        points.append({"target_sensitivity": target, "threshold": threshold, **rates})
    return points


def rates_at(
    predictions: Predictions, positive: frozenset[str], threshold: float, samples: int = SAMPLES
) -> dict[str, dict]:
    """What a threshold does: `sensitivity` and `specificity`, each an interval as in `measure`.

    Args:
        positive: The classes to be found; their probabilities add up.
        threshold: A case counts as found from this probability on.
    """

    def rate(which: int, cases: Predictions) -> np.ndarray:
        ranking: Ranking = rank(*_against_rest(cases, positive), cases.weights)
        return ranking.rates_at(threshold)[which]

    def found(cases: Predictions) -> np.ndarray:
        return _against_rest(cases, positive)[1]

    metrics = (
        Metric("sensitivity", "Sensitivity", partial(rate, 0), False, found, True),
        Metric("specificity", "Specificity", partial(rate, 1), False, lambda p: ~found(p), True),
    )
    sensitivity, specificity = bootstrap_report(predictions, metrics, samples=samples)
    return {
        "sensitivity": sensitivity.interval.as_dict(),
        "specificity": specificity.interval.as_dict(),
    }


def _against_rest(
    predictions: Predictions, positive: frozenset[str]
) -> tuple[np.ndarray, np.ndarray]:
    columns = [k for k, code in enumerate(predictions.classes) if code in positive]
    return (
        np.clip(predictions.probabilities[:, columns].sum(axis=1), 0, 1),
        np.isin(predictions.truth, columns),
    )
