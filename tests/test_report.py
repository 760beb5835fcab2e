"""Operating points: chosen on validation, measured on test."""

import numpy as np
import pytest

from dermsa.evaluation import report
from dermsa.evaluation.metrics import Predictions

CLASSES = ("bad", "worse", "good")
POSITIVE = frozenset({"bad", "worse"})


def predictions(seed, n=400):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(truth, probabilities, CLASSES, POSITIVE, lesion_ids=np.arange(n) // 2)


def test_thresholds_come_from_validation_and_rates_from_test():
    validation, test = predictions(0), predictions(1)
    points = report.operating_points(validation, test, POSITIVE, samples=200)
    assert [point["target_sensitivity"] for point in points] == [0.90, 0.95, 0.98]
    score = validation.probabilities[:, :2].sum(axis=1)
    for point in points:
        found = score[validation.truth < 2] >= point["threshold"]
        assert found.mean() >= point["target_sensitivity"]
        on_test = test.probabilities[:, :2].sum(axis=1) >= point["threshold"]
        positive = test.truth < 2
        assert point["sensitivity"]["value"] == pytest.approx(on_test[positive].mean())
        assert point["specificity"]["value"] == pytest.approx((~on_test)[~positive].mean())
        assert point["sensitivity"]["n"] == positive.sum()
        assert point["specificity"]["n"] == (~positive).sum()
        assert point["sensitivity"]["low"] < point["sensitivity"]["high"]
    thresholds = [point["threshold"] for point in points]
    assert thresholds == sorted(thresholds, reverse=True)


def test_a_report_is_plain_and_marks_what_is_not_defined():
    import json

    few = predictions(2, 20).subset(np.flatnonzero(predictions(2, 20).truth != 1))
    measured = report.measure(few, samples=50)
    assert measured["per_class"]["recall"]["worse"]["value"] is None
    assert 0 <= measured["overall"]["accuracy"]["value"] <= 1
    json.loads(json.dumps(measured, allow_nan=False))
